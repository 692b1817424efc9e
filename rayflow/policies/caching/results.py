"""Which answers may be given again, and to whom: where a model would see the very same, and would say the same.

The key of an answer is a digest of all that decides about it: whose it is, which agents were chosen, how they and their
models are configured, and what they would be told, to the last character. What is equal in all of that is the same
question. How often answers were forgotten is part of the key, so nothing has to be looked for to forget it: it is not
found any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from rayflow.chat import Message
from rayflow.config.schema import AgentConfig, WorkflowConfig
from rayflow.messages import RunRequest, RunResult

KEY_BYTES = 20
MAX_ANSWER_CHARS = 256 << 10
"""Longer answers are not kept."""

_BESIDE_THE_POINT = {"replicas", "scaling", "balancing", "timeout_s", "capabilities", "description", "examples",
                     "examples_file", "delegation_rules", "fallback_agent", "fallback_models"}  # fmt: skip
"""Of an agent: how it runs and when it is chosen, which makes no difference to what it says."""


class Question(NamedTuple):
    """What is asked of whom. `contexts`: for each agent, all messages that its model gets beside its instructions."""

    request: RunRequest
    agents: tuple[str, ...]
    contexts: Sequence[Sequence[Message]]


class Keys:
    """The keys of one workflow's answers. `forgotten` (see `messages.caches`) comes with each question."""

    def __init__(self, config: WorkflowConfig) -> None:
        self._name = config.name
        self._scope = config.caches.results.scope
        self._agents = {agent.name: _digest(_decisive(agent, config)) for agent in config.agents}
        self._several = _digest(config.aggregation.model_dump_json())

    def key(self, question: Question, everywhere: int, forgotten: Mapping[str, int]) -> str:
        """Hexadecimal."""
        request, agents, contexts = question
        owner = {"tenant": "", "user": request.user_id, "session": request.session_id}[self._scope]
        decisive = (
            request.tenant,
            self._scope,
            owner,
            self._name,
            [
                (agent, self._agents.get(agent, ""), forgotten.get(agent, 0), context)
                for agent, context in zip(agents, contexts, strict=True)
            ],
            self._several if len(agents) > 1 else "",
            (everywhere, forgotten.get("", 0)),
            request.params,
            request.instructions,
            request.system_prompt,
        )
        return blake2b(msgspec.msgpack.encode(decisive), digest_size=KEY_BYTES).hexdigest()


def repeats(question: Question, config: WorkflowConfig) -> bool:
    """Whether the same question may get the same answer: no tools are in it, and each agent's model would say it
    again."""
    request, agents, contexts = question
    if not agents or request.cache == "no-store" or request.params.tools:
        return False
    if any(message.role == "tool" or message.tool_calls for context in contexts for message in context):
        return False
    if config.caches.results.scope == "user" and not request.user_id:
        return False  # nobody's answer is not everybody's
    return not config.caches.results.only_deterministic or all(_deterministic(a, request, config) for a in agents)


def keeps(result: RunResult) -> bool:
    """Whether an answer is whole, and what was asked for: not cut, not a stand-in for what failed, no tool call."""
    return (
        result.finish_reason == "stop"
        and 0 < len(result.content) <= MAX_ANSWER_CHARS
        and not result.tool_calls
        and not result.metadata.keys() & {"degraded", "declined", "repeated"}
        and all(part.status == "ok" and not part.instead_of for part in result.parts)
    )


def _deterministic(name: str, request: RunRequest, config: WorkflowConfig) -> bool:
    try:
        agent = config.agent(name)
    except KeyError:
        return False
    if config.model(agent.model).provider == "offline":
        return True
    temperature = agent.temperature if request.params.temperature is None else request.params.temperature
    seed = agent.seed if request.params.seed is None else request.params.seed
    return temperature == 0 or seed is not None


def _decisive(agent: AgentConfig, config: WorkflowConfig) -> str:
    """What of the configuration decides about what an agent says."""
    model = config.model(agent.model).model_dump_json(exclude={"retries", "timeouts"})
    return f"{agent.model_dump_json(exclude=_BESIDE_THE_POINT)}\n{model}"


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=KEY_BYTES).hexdigest()
