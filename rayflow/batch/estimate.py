"""What a job would be, without running it: its rows, their tokens, what they would cost and how long they would take.

All rows are read, and some of them, drawn at random, are counted with a tokenizer. What a model will answer nobody
knows: as much as `max_tokens` allows, and `ANSWER_TOKENS` where nothing is said, is assumed of each answer, and that it
is written at `TOKENS_PER_S`. No model is called.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from rayflow.batch.directory import JobDirectory
from rayflow.batch.runner import Bill
from rayflow.batch.selection import Reader, draw, selected
from rayflow.batch.spec import JobSpec
from rayflow.batch.tasks import BadTask, Task, Tasks
from rayflow.chat import Usage
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import ConfigurationError
from rayflow.models.tokenizers import tokenizer
from rayflow.policies.context import estimate as estimated_tokens

SAMPLE_ROWS = 1000
ANSWER_TOKENS = 500
TOKENS_PER_S = 50.0
MESSAGE_TOKENS = 4
"""What each message takes beside its text."""


class Estimate(msgspec.Struct, frozen=True):
    """`rows`: of the selection, with those that cannot be run (`bad`). Tokens and cost are of the whole job."""

    rows: int
    bad: int
    turns: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    """At the prices of the dearest of the agents' models; None where none has a price."""
    seconds: float
    counted_rows: int
    counted_with: str
    """The tokenizer: the one of the workflow, else o200k_base where it is installed, else an estimate."""

    def to_json(self) -> str:
        return msgspec.json.encode(self).decode()


def estimate(spec: JobSpec, config: WorkflowConfig, reader: Reader, directory: JobDirectory) -> Estimate:
    """Read the inputs. `directory`: the job's; a sample that is drawn is kept there. Raises `ValidationError`."""
    name, count = _tokenizer(config.context.tokenizer)
    answer = spec.params.max_completion_tokens or spec.params.max_tokens or ANSWER_TOKENS
    head = max(count(agent.system_prompt) for agent in config.agents)
    tasks, rng = Tasks(spec), random.Random(spec.selection.seed)
    counted: list[tuple[int, int]] = []
    rows = bad = turns = 0
    draw(reader, spec.selection, directory.sample)
    for row in selected(reader.rows(), spec.selection, spec.limits.limit, directory.sample):
        rows += 1
        task = tasks.task(row)
        if isinstance(task, BadTask):
            bad += 1
            continue
        place = rows - bad - 1
        turns += len(task.turns)
        if place < SAMPLE_ROWS:
            counted.append(_tokens(task, answer, head, count))
        elif (instead := rng.randrange(place + 1)) < SAMPLE_ROWS:
            counted[instead] = _tokens(task, answer, head, count)
    scale = (rows - bad) / len(counted) if counted else 0.0
    prompt = round(scale * sum(tokens for tokens, _ in counted))
    completion = round(scale * sum(tokens for _, tokens in counted))
    dearest = Bill(config).dearest
    return Estimate(
        rows=rows,
        bad=bad,
        turns=turns,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost_usd=round(dearest.cost(Usage(prompt, completion)), 6) if dearest.priced else None,
        seconds=round(_seconds(spec, rows - bad, prompt + completion, completion), 1),
        counted_rows=len(counted),
        counted_with=name,
    )


def _tokens(task: Task, answer: int, head: int, count: Callable[[str], int]) -> tuple[int, int]:
    """Of a prompt, and of an answer: each turn is told all that was said before."""
    told = count(task.system_prompt) if task.system_prompt else head
    prompt = 0
    for turn in task.turns:
        told += sum(count(message.text) + MESSAGE_TOKENS for message in turn)
        prompt += told
        told += answer
    return prompt, answer * len(task.turns)


def _seconds(spec: JobSpec, rows: int, tokens: int, completion: int) -> float:
    limits = spec.limits
    seconds = completion / TOKENS_PER_S / limits.concurrency
    if limits.rows_per_s:
        seconds = max(seconds, rows / limits.rows_per_s)
    if limits.tokens_per_min:
        seconds = max(seconds, tokens / limits.tokens_per_min * 60)
    return seconds


def _tokenizer(name: str) -> tuple[str, Callable[[str], int]]:
    if name == "cl100k_base":
        return name, tokenizer("cl100k_base")
    try:
        return "o200k_base", tokenizer("o200k_base")
    except ConfigurationError:
        if name != "estimate":
            raise
        return "estimate", estimated_tokens
