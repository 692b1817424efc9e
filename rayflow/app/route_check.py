"""A workflow's routing on its own, without starting anything: what it decides about a text, and what it is worth.

What is asked here is what a router asks: the same policy, the same scorer, the same artefact.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rayflow.actors.routes import Routes, RoutingMeans
from rayflow.app.labelled import Labelled, LabelledFile
from rayflow.app.learning import nearest_scorer, routing_means, trained
from rayflow.clock import SYSTEM_CLOCK
from rayflow.config.load import from_dict, load_text
from rayflow.config.schema import NAME_PATTERN, RoutingConfig, WorkflowConfig
from rayflow.errors import ValidationError
from rayflow.models.classifier.linear import LinearScorer
from rayflow.models.classifier.material import Material
from rayflow.policies.routing import Decision, Evidence, Scorer
from rayflow.policies.routing.evaluation import Outcome, Report, report

MOST_TOGETHER = 16
EVALUATION = "route.evaluate"
"""Name of the workflow that is made of labels; no label should have it."""


class Explanation(NamedTuple):
    decision: Decision
    evidence: list[Evidence]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`microseconds_per_decision`: CPU time of this process. `training_cpu_seconds`: of scikit-learn, on one core;
    `training_seconds`: until the scorer was there, starting the process included. 0: nothing was learnt."""

    strategy: str
    confidence_threshold: float
    microseconds_per_decision: float
    training_seconds: float
    training_cpu_seconds: float
    report: Report


class Course(NamedTuple):
    """What is evaluated: a workflow, and what its strategy needs."""

    config: WorkflowConfig
    means: RoutingMeans
    training_seconds: float = 0.0
    training_cpu_seconds: float = 0.0


async def explain(config: WorkflowConfig, text: str) -> Explanation:
    """What a router of this workflow decides about the text, and what speaks for each agent."""
    routes = _routes(config, routing_means(config))
    await routes.start()
    try:
        return Explanation(await routes.decide(text, 0), routes.explain(text))
    finally:
        await routes.stop()


async def evaluate_workflow(config: WorkflowConfig, rows: LabelledFile) -> Evaluation:
    """The workflow's own agents and examples. Raises `ValidationError` for labels that are none of its agents."""
    unknown = sorted(set(rows.labels) - {agent.name for agent in config.agents})
    if unknown:
        raise ValidationError(
            f"the label {unknown[0]!r} is no agent of workflow {config.name!r}:"
            " name another field with --label, or make agents of the labels with --train"
        )
    means = routing_means(config)
    began = time.perf_counter()
    scorer = await means.scorer() if means.scorer else None
    return await _evaluated(Course(config, _with(means, scorer), time.perf_counter() - began), rows.rows)


async def evaluate_trained(train: LabelledFile, rows: LabelledFile, overrides: Sequence[str] = ()) -> Evaluation:
    """One agent a label of `train`, taught with its messages. `overrides`: `routing.KEY=VALUE` as for `--set`.

    Raises `ValidationError` for labels that cannot be names of agents, `ConfigurationError` for wrong overrides.
    """
    config = _team(train, overrides)
    names = {agent.name: i for i, agent in enumerate(config.agents)}
    owners = [[names[label] for label in row.labels] for row in train.rows]
    material = Material(list(names), [row.text for row in train.rows], owners, config.routing.multi_agent)
    began = time.perf_counter()
    scorer, cpu_s = await _taught(config.routing, material)
    means = _with(RoutingMeans(), scorer) if scorer else routing_means(config)
    return await _evaluated(Course(config, means, time.perf_counter() - began, cpu_s), rows.rows)


def _team(train: LabelledFile, overrides: Sequence[str]) -> WorkflowConfig:
    wrong = [label for label in train.labels if not re.match(NAME_PATTERN, label)]
    if wrong:
        raise ValidationError(f"the label {wrong[0]!r} cannot be the name of an agent")
    together = f", multi_agent: true, max_agents_per_request: {MOST_TOGETHER}" if train.several else ""
    source = f"name: evaluation\nagents: [{{name: any}}]\nrouting: {{strategy: intelligent{together}}}\n"
    routing = load_text(source, "--train", overrides, env={}).routing
    agents = [{"name": label} for label in train.labels]
    return from_dict({"name": EVALUATION, "agents": agents, "routing": routing.model_dump()})


async def _taught(routing: RoutingConfig, material: Material) -> tuple[Scorer | None, float]:
    if routing.strategy == "semantic":
        return await nearest_scorer(material), 0.0
    if routing.strategy != "intelligent":
        return None, 0.0
    with tempfile.TemporaryDirectory(prefix="rayflow-route-") as folder:
        artefact = await trained(material, Path(folder))
    return LinearScorer(artefact), artefact.facts["cpu_seconds"]


async def _evaluated(course: Course, rows: Sequence[Labelled]) -> Evaluation:
    config = course.config
    routes = _routes(config, course.means)
    free = _routes(_without_threshold(config), course.means)
    await routes.start()
    await free.start()
    began = time.process_time()
    decisions = [await routes.decide(row.text, turn) for turn, row in enumerate(rows)]
    took_s = time.process_time() - began
    surest = decisions
    if config.routing.strategy != "llm":  # a model is not asked everything twice
        surest = [await free.decide(row.text, turn) for turn, row in enumerate(rows)]
    await routes.stop()
    await free.stop()
    outcomes = [Outcome.of(row.labels, *pair) for row, *pair in zip(rows, decisions, surest, strict=True)]
    return Evaluation(
        strategy=config.routing.strategy,
        confidence_threshold=config.routing.confidence_threshold,
        microseconds_per_decision=took_s / len(rows) * 1e6,
        training_seconds=course.training_seconds,
        training_cpu_seconds=course.training_cpu_seconds,
        report=report(outcomes),
    )


def _without_threshold(config: WorkflowConfig) -> WorkflowConfig:
    routing = config.routing.model_copy(update={"confidence_threshold": 0.0})
    return config.model_copy(update={"routing": routing})


def _routes(config: WorkflowConfig, means: RoutingMeans) -> Routes:
    return Routes(config, SYSTEM_CLOCK, lambda names: names[0], means)


def _with(means: RoutingMeans, scorer: Scorer | None) -> RoutingMeans:
    return RoutingMeans(scorer=partial(_ready, scorer), model=means.model) if scorer else means


async def _ready(scorer: Scorer) -> Scorer:
    return scorer
