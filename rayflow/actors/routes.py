"""Routing as a router does it: what the pure policy cannot do itself is to learn at the start and to ask a model.

Most strategies decide at once, without a turn of the loop (`decide_now`). `llm` waits for a model, not for longer than
`routing.timeout_s`; when that fails, for whatever reason, the keyword strategy decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from rayflow.chat import Message, ModelRequest
from rayflow.clock import Clock, remaining_s
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import WorkflowError
from rayflow.policies.own import Fence
from rayflow.policies.routing import Decision, Evidence, RoutingPolicy, Scorer
from rayflow.policies.routing.llm import ByModel
from rayflow.policies.routing.load_balanced import LeastLoaded
from rayflow.runtime.ports import ModelClient


@dataclass(frozen=True, slots=True)
class RoutingMeans:
    """What a strategy needs from outside, made when the router starts; None where the strategy needs none."""

    scorer: Callable[[], Awaitable[Scorer]] | None = None
    """Learns, or loads what was learnt. Raises `ConfigurationError`."""
    model: Callable[[], ModelClient] | None = None
    """For `llm`; without one the keyword strategy decides."""


class Routes:
    """`least_loaded`: the least busy of the named agents, for `load_balanced`."""

    def __init__(self, config: WorkflowConfig, clock: Clock, least_loaded: LeastLoaded, means: RoutingMeans) -> None:
        self._config = config
        self._clock = clock
        self._least_loaded = least_loaded
        self._means = means
        self._policy: RoutingPolicy | None = None
        self._model: ModelClient | None = None
        self._fence = Fence(f"llm (model {config.routing.model})", "the keyword strategy")

    async def start(self) -> None:
        """Learn where the strategy learns: that may take seconds, and the loop goes on meanwhile."""
        scorer = await self._means.scorer() if self._means.scorer else None
        self._policy = RoutingPolicy(self._config.routing, self._config.agents, scorer, self._least_loaded)
        self._model = self._means.model() if self._means.model else None

    async def stop(self) -> None:
        if self._model is not None:
            await self._model.close()

    def decide_now(self, text: str, turn: int) -> Decision | None:
        """Who answers; None where that takes a wait (`decide`). `turn`: how many runs were routed before."""
        policy = self._ready()
        return None if policy.by_model and self._model else policy.decide(text, turn)

    async def decide(self, text: str, turn: int, history: Sequence[Message] = ()) -> Decision:
        """Who answers. `history`: what was said before, the newest last."""
        policy = self._ready()
        if policy.by_model is None or self._model is None:
            return policy.decide(text, turn)
        try:
            decision = policy.by_model.decide(await self._ask(self._model, policy.by_model, text, history))
        except (WorkflowError, TimeoutError, ValueError) as error:
            self._fence.report(error)
            decision = policy.decide(text, turn)
            return replace(decision, reason=f"{decision.reason} (the model did not choose)")
        return policy.delegated(decision, text)

    def explain(self, text: str) -> list[Evidence]:
        """What speaks for each agent."""
        return self._ready().explain(text)

    async def _ask(self, model: ModelClient, by_model: ByModel, text: str, history: Sequence[Message]) -> str:
        limit_s = remaining_s(self._clock.now(), self._config.routing.timeout_s)
        request = ModelRequest(by_model.messages(text, history), by_model.params, limit_s)
        async with asyncio.timeout(limit_s):
            return (await model.complete(request)).text

    def _ready(self) -> RoutingPolicy:
        assert self._policy is not None, "start() comes first"
        return self._policy
