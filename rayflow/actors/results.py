"""Answers that are given again: what a router has to do with them.

Once a run's agents are chosen and its context is made, an equal question may have an answer already: in the memory of
this router, in that of a session store, which all routers share, or in its records. Whoever finds none asks its agents
and keeps what they say. Equal questions that come meanwhile wait for that, unless they stream: they would lose their
tokens. What cannot be looked up, because a store is away, is asked of the agents.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec

from rayflow.actors.work import Work
from rayflow.caching import Counts, Lru
from rayflow.clock import Clock
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import WorkflowError
from rayflow.messages import (
    Ack,
    Answer,
    CacheCounts,
    ForgetAnswers,
    FoundAnswer,
    GetAnswer,
    KeepAnswer,
    ReadRecords,
    Records,
    RunResult,
)
from rayflow.messages.caches import EVERYTHING, FORGOTTEN, KIND
from rayflow.messages.records import RESULTS, TENANT
from rayflow.policies.caching import Keys, Question, keeps, repeats
from rayflow.policies.own import Fence
from rayflow.policies.placement import record_shard, shard_addresses
from rayflow.runtime.ports import Fabric

TIMEOUT_S = 1.0
"""A store that has not answered by then is not waited for."""
REFRESH_S = 30.0
"""How long a router that was not told believes that nothing was forgotten."""
MAX_CHARS = 64 << 20
"""Of all answers in the memory of one actor."""
MAX_TENANTS = 10_000
MOST_WAITING = 1000
"""Runs that wait for the answer to an equal question; others ask for themselves."""

_decode_counts = msgspec.json.Decoder(dict[str, int]).decode


class _Forgotten(NamedTuple):
    """How often answers of a tenant were forgotten, as read at `at`."""

    counts: dict[str, int]
    at: float


class _Asked(NamedTuple):
    """A run that found nothing. `leads`: others wait for what it will say."""

    key: str
    leads: asyncio.Future[Answer | None] | None


class Results:
    """Of one router."""

    def __init__(self, config: WorkflowConfig, fabric: Fabric, clock: Clock) -> None:
        settings = config.caches.results
        self._config = config
        self._fabric = fabric
        self._clock = clock
        self._keys = Keys(config)
        self._ttl_us = int(settings.ttl_s * 1e6)
        self._near: Lru[str, Answer] | None = None
        if "router" in settings.levels:
            self._near = Lru(settings.max_entries, MAX_CHARS)
        self._far = settings.levels != ["router"]
        self._shards = shard_addresses(config.session.shards)
        self._forgotten: Lru[str, _Forgotten] = Lru(MAX_TENANTS)
        self._everywhere = 0
        self._asked: dict[str, _Asked] = {}
        self._leading: dict[str, asyncio.Future[Answer | None]] = {}
        self._waiting = 0
        self._fence = Fence("result cache", "the agents")

    async def recall(self, work: Work) -> Answer | None:
        """The answer to an equal question. Sets what the run says about it (`run.cache`)."""
        run, request = work.run, work.request
        assert run.decision is not None, "the agents are chosen first"
        run.cache = "bypass"
        agents = run.decision.agents
        question = Question(request, agents, [work.contexts.get(agent, work.context) for agent in agents])
        if not repeats(question, self._config):
            return None
        try:
            forgotten = await self._forgotten_by(request.tenant)
        except WorkflowError as error:
            self._fence.report(error)
            return None
        key = self._keys.key(question, self._everywhere, forgotten)
        answer = None
        if request.cache != "no-cache":
            answer = await self._find(request.tenant, key)
            if answer is None and not request.stream:
                answer = await self._wait_for(key)
            run.cache = "miss" if answer is None else "hit"
        if answer is None:
            leads = None
            if key not in self._leading:
                leads = self._leading[key] = asyncio.get_running_loop().create_future()
            self._asked[request.run_id] = _Asked(key, leads)
        return answer

    def ended(self, work: Work, outcome: RunResult | BaseException) -> None:
        """A run is over: keep what it was answered, and tell those who wait for that."""
        asked = self._asked.pop(work.request.run_id, None)
        if asked is None:
            return
        answer = None
        first_try = all(part.attempt == 1 for part in work.run.parts)  # else a model stood in for another one
        if isinstance(outcome, RunResult) and first_try and keeps(outcome):
            answer = _answer(outcome)
            self._keep(work.request.tenant, asked.key, answer)
        if asked.leads is not None:
            del self._leading[asked.key]
            asked.leads.set_result(answer)

    def forget(self, message: ForgetAnswers) -> Ack:
        """Numbers only grow: what was read before and comes later changes nothing."""
        self._everywhere = max(self._everywhere, message.everywhere)
        if message.counts is not None:
            self._merge(message.tenant, message.counts)
        return Ack()

    def counts(self) -> list[CacheCounts]:
        return [counted("results", "router", self._near)] if self._near is not None else []

    async def _find(self, tenant: str, key: str) -> Answer | None:
        now_us = self._clock.wall_us()
        if self._near is not None and (answer := self._near.get(key, now_us)) is not None:
            return answer
        if not self._far:
            return None
        try:
            at = record_shard(tenant, place(key), self._shards)
            found: FoundAnswer = await self._fabric.ask(at, GetAnswer(tenant, key), TIMEOUT_S)
        except WorkflowError as error:
            self._fence.report(error)
            return None
        if found.answer is not None and self._near is not None:
            self._near.put(key, found.answer, found.expires_us, len(found.answer.text))
        return found.answer

    async def _wait_for(self, key: str) -> Answer | None:
        """What an equal question that is under way will be answered; None where it is not kept."""
        leading = self._leading.get(key)
        if leading is None or self._waiting >= MOST_WAITING:
            return None
        self._waiting += 1
        try:
            return await asyncio.shield(leading)
        finally:
            self._waiting -= 1

    def _keep(self, tenant: str, key: str, answer: Answer) -> None:
        expires_us = self._clock.wall_us() + self._ttl_us
        if self._near is not None:
            self._near.put(key, answer, expires_us, len(answer.text))
        if self._far:
            at = record_shard(tenant, place(key), self._shards)
            self._fabric.tell(at, KeepAnswer(tenant, key, answer, expires_us))

    async def _forgotten_by(self, tenant: str) -> dict[str, int]:
        """Raises `WorkflowError` where the store that knows is away."""
        now = self._clock.now()
        known = self._forgotten.get(tenant)
        if known is None or now - known.at > REFRESH_S:
            everywhere, counts = await asyncio.gather(self._read("", EVERYTHING), self._read(tenant, FORGOTTEN))
            self._everywhere = max(self._everywhere, everywhere.get("", 0))
            known = self._merge(tenant, counts)
        return known.counts

    async def _read(self, tenant: str, name: str) -> dict[str, int]:
        at = record_shard(tenant, TENANT, self._shards)
        read: Records = await self._fabric.ask(at, ReadRecords(tenant, TENANT, KIND, [name]), TIMEOUT_S)
        return _decode_counts(read.records[0].value) if read.records else {}

    def _merge(self, tenant: str, counts: dict[str, int]) -> _Forgotten:
        known = self._forgotten.get(tenant)
        if known is not None:
            counts = {name: max(counts.get(name, 0), known.counts.get(name, 0)) for name in counts | known.counts}
        merged = _Forgotten(counts, self._clock.now())
        self._forgotten.put(tenant, merged)
        return merged


def place(key: str) -> str:
    """The owner of the records that hold the answer of this key: answers of one tenant are spread over the stores."""
    return RESULTS + key[:1]


def counted(cache: str, level: str, kept: Lru[str, Answer] | Lru[tuple[str, str], FoundAnswer]) -> CacheCounts:
    return told(cache, level, kept.counts, len(kept))


def told(cache: str, level: str, counts: Counts, entries: int) -> CacheCounts:
    return CacheCounts(cache, level, counts.hits, counts.misses, counts.stores, counts.evictions, entries)


def _answer(result: RunResult) -> Answer:
    metadata = {name: value for name, value in result.metadata.items() if name not in ("cache", "routing")}
    return Answer(result.content, result.model, result.agents, result.strategy, result.confidence, metadata)
