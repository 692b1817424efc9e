"""How alike in meaning the turns of a session are to a question, where vectors are configured.

The vectors of a session stay with what the router knows of its past, and go with it: about 1.5 KB a turn for a model of
384 dimensions. They are made when a session is first searched, beside its runs: a run waits for `embeddings.wait_s` at
most, and where a vector is missing by then, or the model fails, it is searched by words alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

from rayflow.clock import Clock, deadline
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import WorkflowError
from rayflow.messages import CacheCounts
from rayflow.policies.context import Entry, Meaning, Past
from rayflow.policies.own import Fence
from rayflow.policies.similarity import Vector, similarity
from rayflow.runtime.ports import Embedder

SLICE_S = 0.002
"""After so much arithmetic others may work."""
STEP = 64
"""Turns that are embedded, or compared, at once."""


class _Vectors:
    """Of one past. `learning`: whoever adds to them."""

    __slots__ = ("learning", "of")

    def __init__(self) -> None:
        self.of: dict[int, Vector] = {}
        self.learning: asyncio.Task[None] | None = None


class Meanings:
    """`build` makes the embedder when it is first needed. `wait_s`: as configured where it is not given."""

    def __init__(
        self, config: WorkflowConfig, clock: Clock, build: Callable[[], Embedder], wait_s: float | None = None
    ) -> None:
        self._weight = config.embeddings.weight
        self._wait_s = config.embeddings.wait_s if wait_s is None else wait_s
        self._clock = clock
        self._build = build
        self._embedder: Embedder | None = None
        self._fence = Fence("embeddings", "search by words")
        self._vectors: WeakKeyDictionary[Past, _Vectors] = WeakKeyDictionary()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def embedder(self) -> Embedder:
        if self._embedder is None:
            self._embedder = self._build()
        return self._embedder

    async def of(self, past: Past, asked: str, tenant: str = "") -> Meaning | None:
        """The meaning of all turns of `past`, a session of `tenant`, that have words; None where it is not known."""
        if not asked.strip():
            return None
        vectors = self._vectors.setdefault(past, _Vectors())
        try:
            async with asyncio.timeout(self._wait_s):
                question, _ = await asyncio.gather(
                    self.embedder.embed([asked], tenant), self._learnt(past, vectors, tenant)
                )
        except TimeoutError:
            return None  # what is under way goes on, for the next turn
        except (WorkflowError, OSError) as error:
            self._fence.report(error)
            return None
        return Meaning(await self._compared(question[0], vectors.of), self._weight)

    def counts(self) -> list[CacheCounts]:
        """Of the vectors in memory, once there are any."""
        if self._embedder is None:
            return []
        counts = self._embedder.counts
        return [
            CacheCounts(
                "embeddings", "router", counts.hits, counts.misses, counts.stores, counts.evictions, len(self._embedder)
            )
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._embedder is not None:
            await self._embedder.close()

    async def _learnt(self, past: Past, vectors: _Vectors, tenant: str) -> None:
        """Wait until all turns have vectors, as far as somebody works on that."""
        while missing := [entry for entry in past.entries if _says(entry) and entry.seq not in vectors.of]:
            if vectors.learning is None:
                task = vectors.learning = asyncio.get_running_loop().create_task(self._learn(vectors, missing, tenant))
                self._tasks.add(task)
                task.add_done_callback(self._over)
            await asyncio.shield(vectors.learning)

    async def _learn(self, vectors: _Vectors, missing: Sequence[Entry], tenant: str) -> None:
        deadline.set(None)  # that of the run: others will use them
        try:
            for at in range(len(missing) - STEP, -STEP, -STEP):  # the newest first
                part = missing[max(at, 0) : at + STEP]
                found = await self.embedder.embed([entry.message.text for entry in part], tenant)
                vectors.of.update(zip((entry.seq for entry in part), found, strict=True))
        finally:
            vectors.learning = None

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told to those who wait for it, and they may all have left

    async def _compared(self, question: Vector, vectors: dict[int, Vector]) -> dict[int, float]:
        alike: dict[int, float] = {}
        since = self._clock.now()
        for number, (seq, vector) in enumerate(list(vectors.items())):
            alike[seq] = similarity(question, vector)
            if number % STEP == STEP - 1 and self._clock.now() - since > SLICE_S:
                await asyncio.sleep(0)
                since = self._clock.now()
        return alike


def _says(entry: Entry) -> bool:
    """Whether a turn is searched."""
    message = entry.message
    return message.role in ("user", "assistant") and not message.tool_calls and bool(message.text.strip())
