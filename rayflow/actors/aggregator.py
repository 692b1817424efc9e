"""The aggregator actor: joins the parts of several agents into one answer."""

from __future__ import annotations

from collections.abc import Mapping

from rayflow.config.schema import AggregationConfig
from rayflow.messages import Joined, JoinParts, Payload
from rayflow.policies import merging
from rayflow.runtime.ports import Handler


class Aggregator:
    def __init__(self, config: AggregationConfig) -> None:
        self._config = config

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {JoinParts: self._join}

    async def start(self) -> None:
        """Nothing to open."""

    async def drain(self, budget_s: float) -> list[str]:
        return []

    async def stop(self) -> None:
        """Nothing to give back."""

    def _join(self, request: JoinParts) -> Joined:
        c = self._config
        return merging.join(c.strategy, request.question, request.parts, c.max_merged_length, c.source_attribution)
