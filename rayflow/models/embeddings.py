"""Texts as vectors: from an OpenAI-compatible endpoint, a local model, or hashed words.

Whoever embeds asks `Embeddings`: texts that are known come from memory, the others in batches, a few at a time, and
texts that two ask for at once are computed once. An endpoint has the timeouts of its entry under `models` and fails as
it does for chat; whether to ask again is for whoever knows what the vectors are for.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from math import isfinite, sqrt
from typing import Protocol

import msgspec

from rayflow.caching import Counts, Memo
from rayflow.clock import SYSTEM_CLOCK, remaining_s
from rayflow.config.schema import EmbeddingsConfig, Timeouts
from rayflow.errors import ConfigurationError, ModelError, ModelTimeout
from rayflow.models.deadlines import Deadlines, Late
from rayflow.models.lanes import BROKEN, Lane, NoAnswer, read_whole
from rayflow.models.offline import vectors
from rayflow.models.sse import StreamTooLarge
from rayflow.models.upstream import Upstream

MOST_AT_ONCE = 4
"""Batches under way."""
DIGEST_BYTES = 16


class Backend(Protocol):
    """Who computes. `name` is that of the model."""

    name: str

    def vectors(self, texts: Sequence[str]) -> Awaitable[Sequence[Sequence[float]]]:
        """A vector for each text, all as long. Raises `ModelError` and its subclasses."""
        ...

    async def close(self) -> None: ...


class Embeddings:
    """Implements `Embedder` (rayflow.runtime.ports)."""

    def __init__(self, backend: Backend, config: EmbeddingsConfig) -> None:
        self.name = backend.name
        self._backend = backend
        self._batch = config.batch_size
        self._max_chars = config.max_chars
        self._memo: Memo[bytes, array[float]] = Memo(config.cached)
        self._room = asyncio.Semaphore(MOST_AT_ONCE)

    @property
    def counts(self) -> Counts:
        return self._memo.counts

    def __len__(self) -> int:
        return len(self._memo)

    async def embed(self, texts: Sequence[str], tenant: str = "") -> list[array[float]]:
        """A vector of unit length for each of `texts`, which are the tenant's: none gets what another one had computed.
        Raises `ModelError` and its subclasses."""
        keys = [self._key(text, tenant) for text in texts]
        by_key = dict(zip(keys, texts, strict=True))
        return await self._memo.get_or_compute(keys, lambda missing: self._compute([by_key[key] for key in missing]))

    async def close(self) -> None:
        await self._memo.close()
        await self._backend.close()

    def _key(self, text: str, tenant: str) -> bytes:
        """Of the model, the tenant and the text, as far as it is looked at."""
        known = f"{self.name}\0{tenant}\0{text[: self._max_chars]}".encode()
        return blake2b(known, digest_size=DIGEST_BYTES).digest()

    async def _compute(self, texts: Sequence[str]) -> list[array[float]]:
        batches = [texts[at : at + self._batch] for at in range(0, len(texts), self._batch)]
        found = await asyncio.gather(*map(self._one_batch, batches))
        return [vector for batch in found for vector in batch]

    async def _one_batch(self, texts: Sequence[str]) -> list[array[float]]:
        async with self._room:
            found = await self._backend.vectors([text[: self._max_chars] for text in texts])
        if len(found) != len(texts) or len({len(vector) for vector in found}) != 1:
            raise ModelError(f"model {self.name!r}: {len(texts)} texts did not get a vector each", model=self.name)
        return [self._unit(vector) for vector in found]

    def _unit(self, vector: Sequence[float]) -> array[float]:
        length = sqrt(sum(value * value for value in vector))
        if not length or not isfinite(length):
            raise ModelError(f"model {self.name!r}: a vector has no direction", model=self.name)
        return array("f", [value / length for value in vector])


class HashedWords:
    """See `models.offline.vectors`. In a thread: a long text takes a millisecond."""

    name = vectors.NAME

    async def vectors(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        return await asyncio.to_thread(lambda: [vectors.vector(text) for text in texts])

    async def close(self) -> None: ...


class LocalModel:
    """A sentence-transformers model in `folder`, loaded when it is first used, in a thread of its own. Raises
    `ConfigurationError` where the package is missing."""

    def __init__(self, folder: str) -> None:
        from importlib.util import find_spec

        if find_spec("sentence_transformers") is None:
            raise ConfigurationError("embeddings.local needs a package: pip install 'rayflow[embeddings]'")
        self.name = folder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embeddings")
        self._model: _SentenceTransformer | None = None

    async def vectors(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._encode, list(texts))

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _encode(self, texts: list[str]) -> Sequence[Sequence[float]]:
        try:
            if self._model is None:
                from sentence_transformers import SentenceTransformer

                self._model = SentenceTransformer(self.name, device="cpu", local_files_only=True)
            return self._model.encode(texts, show_progress_bar=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"the model in {self.name} failed: {error}", model=self.name) from error


class _SentenceTransformer(Protocol):
    def encode(self, texts: list[str], *, show_progress_bar: bool) -> Sequence[Sequence[float]]: ...


class _Vector(msgspec.Struct):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Vector]


_decode = msgspec.json.Decoder(_Answer).decode


class EmbeddingsEndpoint:
    """`/embeddings` of an OpenAI-compatible endpoint. `lane` must lead there."""

    def __init__(self, lane: Lane, upstream: Upstream, timeouts: Timeouts) -> None:
        self.name = upstream.model
        self._lane = lane
        self._upstream = upstream
        self._timeouts = timeouts

    async def vectors(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        body = msgspec.json.encode({"model": self.name, "input": texts, "encoding_format": "float"})
        said = await self._post(body)
        try:
            found = sorted(_decode(said).data, key=lambda vector: vector.index)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._upstream.fault(ModelError, f"the answer holds no embeddings ({error})") from None
        if [vector.index for vector in found] != list(range(len(texts))):
            raise self._upstream.fault(ModelError, f"{len(found)} embeddings for {len(texts)} texts")
        return [vector.embedding for vector in found]

    async def close(self) -> None:
        await self._lane.close()

    async def _post(self, body: bytes) -> bytes:
        """The body of a good answer."""
        deadlines = Deadlines(self._timeouts, remaining_s(SYSTEM_CLOCK.now(), self._timeouts.total_s))
        try:
            answer = await deadlines.within("total", self._lane.send(body))
            try:
                said = await deadlines.within("total", read_whole(answer))
            finally:
                await answer.close()
        except Late as late:
            raise self._upstream.fault(ModelTimeout, str(late), phase=late.phase) from None
        except NoAnswer as error:
            raise self._upstream.connection_fault(error, self._timeouts.connect_s) from error.__cause__
        except (StreamTooLarge, BROKEN) as error:
            raise self._upstream.fault(ModelError, f"the answer broke off ({type(error).__name__})") from error
        finally:
            deadlines.close()
        if not 200 <= answer.status < 300:
            raise self._upstream.status_fault(answer.status, answer.headers, said)
        return said
