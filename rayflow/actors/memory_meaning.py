"""How near in meaning memories are to a text, where vectors are configured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rayflow.errors import WorkflowError
from rayflow.policies.memory import Shelf, Similarity
from rayflow.policies.own import Fence
from rayflow.policies.similarity import similarity
from rayflow.runtime.ports import Embedder


class MemoryMeaning:
    """`build` makes the embedder when it is first needed; `wait_s`: how
    long a search waits for it, which then goes by words."""

    def __init__(self, build: Callable[[], Embedder], wait_s: float) -> None:
        self._build = build
        self._wait_s = wait_s
        self._embedder: Embedder | None = None
        self._fence = Fence("embeddings of memories", "search by words")

    async def of(self, query: str, shelf: Shelf) -> Similarity | None:
        """None where it is not known."""
        texts = [memory.text for memory in shelf]
        if not query.strip() or not texts:
            return None
        if self._embedder is None:
            self._embedder = self._build()
        try:
            async with asyncio.timeout(self._wait_s):
                asked, *vectors = await self._embedder.embed([query, *texts])
        except (WorkflowError, TimeoutError, OSError) as error:
            self._fence.report(error)
            return None
        known = dict(zip(texts, vectors, strict=True))
        return lambda _, wanted: [similarity(asked, known[text]) if text in known else 0.0 for text in wanted]

    async def stop(self) -> None:
        if self._embedder is not None:
            await self._embedder.close()
