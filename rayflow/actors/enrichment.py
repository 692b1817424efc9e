"""What a model gets beside the new message: the shell around `policies.context`.

Of most conversations a model gets the last messages and nothing else: then this costs some microseconds and no turn of
the loop. One in which something is to be found or summarised is read from the store once; what is made of it stays with
what the router knows of the session. Reading and analysing happens in slices, so that a session of thousands of turns
holds nobody up. Where a model writes the
summaries, it does so after the answer is on its way, and what it wrote is kept with the session.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rayflow.actors.summaries import Summaries
from rayflow.actors.work import Work
from rayflow.caching import Counts
from rayflow.clock import Clock
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import WorkflowError
from rayflow.events import Event
from rayflow.messages import Appended, GetHistory, GetSession, History, Payload, SessionInfo, Turn
from rayflow.policies.context import (
    CHUNK,
    NO_FACTS,
    Context,
    Count,
    Facts,
    Known,
    Past,
    asked,
    assemble,
    estimate,
    plain,
    preferring,
    state_line,
    weighs,
)
from rayflow.policies.own import Fence
from rayflow.runtime.ports import ContextSource, Embedder, ModelClient

if TYPE_CHECKING:
    from rayflow.actors.meaning import Meanings
    from rayflow.actors.recollection import Recollection

log = logging.getLogger(__name__)

PAGE = 200
"""Turns that are read at once."""
SLICE_S = 0.002
"""After so much analysis others may work. A step of it takes about as long, so nobody waits for twice as much."""
SOURCE_TIMEOUT_S = 2.0
"""What an external source has not said by then is left out."""

Ask = Callable[[Work, Payload], Awaitable[Any]]
"""Asks the store of the run's session."""


@dataclass(frozen=True, slots=True)
class ContextMeans:
    """What enrichment needs from outside. `count`: the tokenizer. `summariser` makes the client of
    `context.summary_model`. `sources`: further ones, such as a knowledge base or a user's profile. `embedder` makes who
    makes vectors, where that is configured, `extractor` the client of `memory.extraction_model`."""

    count: Count = estimate
    summariser: Callable[[], ModelClient] | None = None
    sources: tuple[ContextSource, ...] = ()
    embedder: Callable[[], Embedder] | None = None
    extractor: Callable[[], ModelClient] | None = None


NO_CONTEXT_MEANS = ContextMeans()


class Enrichment:
    """`ask` and `record` are the router's. `memory`: None where nothing is remembered."""

    def __init__(
        self,
        config: WorkflowConfig,
        ask: Ask,
        record: Callable[[Work, Event], None],
        clock: Clock,
        means: ContextMeans,
        memory: Recollection | None = None,
    ) -> None:
        self._config = config.context
        self._workflow = config.name
        self._ask = ask
        self._record = record
        self._clock = clock
        self._means = means
        self._memory = memory
        self._fences = {source.name: Fence(f"context source {source.name}", "nothing") for source in means.sources}
        self._summaries = Summaries(config.context, ask, clock, means.summariser)
        self.counts = Counts()
        """How often a context could be made from memory."""
        self.meanings: Meanings | None = None
        if means.embedder is not None:
            from rayflow.actors.meaning import Meanings

            self.meanings = Meanings(config, clock, means.embedder)
        self._remembers = config.context.remembers
        self._plain = self._remembers and "system_state" not in config.context.sources and not means.sources
        """Whether there may be nothing to choose."""

    def build(self, work: Work, appended: Appended) -> Awaitable[None] | None:
        """Set the context of a run whose new messages were just `appended`. To be awaited where it is an awaitable."""
        request, config = work.request, self._config
        if not config.enrichment:
            work.context = request.messages
            return None
        slot = work.slot
        assert slot is not None and slot.window is not None, "the question is committed first"
        now, now_us, known = self._clock.now(), self._clock.wall_us(), slot.known
        if known is None and appended.created:
            known = slot.known = Known(now, now_us, now_us, version=appended.version)
        remembered = self._memory is not None and bool(request.user_id)
        if known is None or not self._plain or remembered or not self._current(known, appended, now):
            return self._build(work, appended, now_us)
        before = appended.last_seq - len(request.messages)
        messages = plain(known, slot.window, before, request.messages, config, now_us, self._means.count)
        if messages is None:
            return self._build(work, appended, now_us, weigh=True)
        work.run.context_read = False
        self.counts.hits += 1
        known.built_us = now_us
        work.context = messages
        return None

    async def stop(self) -> None:
        await self._summaries.stop()
        if self.meanings is not None:
            await self.meanings.stop()

    async def _build(self, work: Work, appended: Appended, now_us: int, *, weigh: bool = False) -> None:
        """`weigh`: there is something to choose, that was seen already."""
        known, fresh = await self._known(work, appended, now_us)
        slot, request, config = work.slot, work.request, self._config
        assert slot is not None and slot.window is not None, "the question is committed first"
        before = appended.last_seq - len(request.messages)
        messages, count = None, self._means.count
        recollected = None if self._memory is None else await self._memory.recall(request)
        if self._plain and not recollected and not weigh:
            messages = plain(known, slot.window, before, request.messages, config, now_us, count)
        if messages is None:
            past, read = await self._past(work, known, before) if self._remembers else (Past(count=count), False)
            known.count(past)
            if weighs(past, config):
                await _in_slices(past.analyse(), self._clock)
            fresh = fresh and not read
            meaning = None
            if self.meanings is not None and config.retrieval and past.last > config.window:
                meaning = await self.meanings.of(past, asked(request.messages), request.tenant)
            external = await self._external(work) if self._means.sources else ()
            state = state_line(self._workflow, before, now_us)
            facts = known.facts if recollected is None else preferring(known.facts, recollected.preferences)

            def told(memories: Sequence[tuple[str, str]] = ()) -> Context:
                new = request.messages
                return assemble(past, new, config, now_us, facts, state, external, count, meaning, memories)

            context = told() if recollected is None else told(recollected.lines())
            messages = context.messages
            if recollected is not None:
                work.contexts = {agent: told(recollected.lines(agent)).messages for agent in recollected.others}
            consists = context.summarised, frozenset(piece.inclusion.reason for piece in context.pieces)
            if known.told != consists or "relevant" in consists[1] or not fresh:
                known.told = consists
                self._record(work, work.run.event("context.built", self._clock.wall_us(), data=_told(context, fresh)))
            self._summaries.refresh(work, known, context)
        work.run.context_read = not fresh
        self.counts.hits += fresh
        self.counts.misses += not fresh
        known.built_us = now_us
        work.context = messages

    async def _known(self, work: Work, appended: Appended, now_us: int) -> tuple[Known, bool]:
        """What is known of the session, and whether that was in memory."""
        slot, request = work.slot, work.request
        assert slot is not None, "own_session comes first"
        now, known = self._clock.now(), slot.known
        if known is not None and self._current(known, appended, now):
            return known, True
        head: SessionInfo = await self._ask(work, GetSession(request.tenant, request.session_id))
        if known is None:
            oldest_us = appended.window[0].created_us if appended.window else head.created_us
            known = slot.known = Known(now, oldest_us, now_us)
        known.facts = Facts.of(head.metadata) if head.metadata else NO_FACTS
        known.read_at, known.version = now, head.version
        return known, False

    def _current(self, known: Known, appended: Appended, now: float) -> bool:
        """Whether the session's head is still as it was read."""
        return known.version == appended.version and now - known.read_at <= self._config.cache_ttl_s

    async def _past(self, work: Work, known: Known, before: int) -> tuple[Past, bool]:
        """The session's turns up to number `before`, and whether the store was read for them."""
        slot, request = work.slot, work.request
        assert slot is not None and slot.window is not None, "the question is committed first"
        reach = max(self._config.search_turns, self._config.window)
        past = known.past
        if past is None or past.last > before or past.last - past.since > 2 * reach + CHUNK:
            since = max(before - reach, 0) // CHUNK * CHUNK + 1
            past = known.past = Past(since, self._means.count, searched=self._config.retrieval > 0)
        missing = before - past.last
        if past.entries and missing <= len(slot.window):
            recent = [*slot.window][len(slot.window) - missing :]
            turns = [Turn(past.last + n, message, created_us=known.built_us) for n, message in enumerate(recent, 1)]
            await _in_slices(past.learn(turns), self._clock)
            return past, False
        while past.last < before:
            page = GetHistory(request.tenant, request.session_id, after=past.last, limit=min(PAGE, before - past.last))
            history: History = await self._ask(work, page)
            if not history.turns:
                break
            await _in_slices(past.learn(history.turns), self._clock)
        return past, True

    async def _external(self, work: Work) -> list[tuple[str, str]]:
        """What the external sources say. One that fails, or is late, is left out."""
        sources = self._means.sources
        said = await asyncio.gather(*(self._said(source, work) for source in sources))
        return [(source.name, text) for source, text in zip(sources, said, strict=True) if text]

    async def _said(self, source: ContextSource, work: Work) -> str:
        try:
            async with asyncio.timeout(SOURCE_TIMEOUT_S):
                return await source.text(work.request)
        except (WorkflowError, TimeoutError, OSError) as error:
            self._fences[source.name].report(error)
            return ""


async def _in_slices(steps: Iterator[None], clock: Clock) -> None:
    """Run `steps` to their end; others may work in between."""
    since = clock.now()
    for _ in steps:
        if clock.now() - since > SLICE_S:
            await asyncio.sleep(0)
            since = clock.now()


def _told(context: Context, cached: bool) -> dict[str, Any]:
    """The facts of a context for the event log."""
    pieces: dict[str, int] = {}
    for piece in context.pieces:
        pieces[piece.inclusion.reason] = pieces.get(piece.inclusion.reason, 0) + 1
    return {"tokens": context.tokens, "budget": context.budget, "pieces": pieces, "cached": cached}
