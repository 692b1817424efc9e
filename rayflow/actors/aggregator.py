"""The aggregator actor: joins the parts of several agents into one answer.

Joining is pure, takes 50 ms at most (`policies.merging.answers.MAX_PAIRS`) and runs on the loop. A judge model, where
one is configured, is asked before; without its verdict, the agents' agreement with each other stands for accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rayflow.actors.inflight import InFlight
from rayflow.actors.judge import Judge
from rayflow.config.schema import AggregationConfig
from rayflow.messages import Joined, JoinParts, Payload
from rayflow.policies.merging import Merger, usable
from rayflow.runtime.ports import Handler


class Aggregator:
    """`judge` is closed with the actor. Raises `ConfigurationError` for a policy of the user's that cannot be used."""

    def __init__(self, config: AggregationConfig, judge: Judge | None = None, address: str = "aggregator/0") -> None:
        self._merger = Merger(config)
        self._judge = judge
        self._busy = InFlight(address)

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {JoinParts: self._join}

    async def start(self) -> None:
        """The judge connects on first use."""

    async def drain(self, budget_s: float) -> list[str]:
        return await self._busy.drain(budget_s)

    async def stop(self) -> None:
        if self._judge is not None:
            await self._judge.close()

    async def _join(self, request: JoinParts) -> Joined:
        with self._busy.working(request.run_id):
            parts = usable(request.parts)
            ruling = await self._judge.rule(request.question, parts) if self._judge and len(parts) > 1 else None
            verdict = ruling.accuracy if ruling else None
            joined = self._merger.join(request.question, request.parts, lead=request.lead, verdict=verdict)
            return msgspec.structs.replace(joined, usage=ruling.usage) if ruling else joined
