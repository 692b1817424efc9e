"""Large messages by reference, so that they do not stand in the way of the tokens behind them on a connection."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from rayflow.cluster.fabric.frames import Reference, Taken, decode_message, encode, encode_message
from rayflow.errors import FabricError, FrameInvalid
from rayflow.messages import AnyPayload, Failure, Payload

log = logging.getLogger(__name__)

BLOB_BYTES = 1 << 20
"""An ask or a reply over this size travels as a reference where both ends share a store. Told messages and items of
streams never do: they arrive in order, and fetching takes its time."""


class Blobs(Protocol):
    """A store that several processes reach."""

    @property
    def kind(self) -> str:
        """Names the store: two processes whose kinds are equal reach the same one."""
        ...

    async def put(self, data: bytes) -> bytes:
        """Keep `data` until it is freed, or a minute has passed. Returns its name. Raises `FabricError`."""
        ...

    async def get(self, name: bytes) -> bytes:
        """What another process has put. Raises `FabricError` where it is gone."""
        ...

    def free(self, name: bytes) -> None:
        """The receiver has it. Unknown names are ignored."""
        ...


class Lending:
    """What one connection has lent to its peer: freed when the peer has taken it, or is gone.

    `on`: both ends reach the same store.
    """

    def __init__(self, blobs: Blobs | None, send: Callable[[bytes], None]) -> None:
        self.on = False
        self._blobs = blobs
        self._send = send
        self._lent: set[bytes] = set()
        self._closed = False

    def agree(self, kind: str) -> None:
        """The peer has a store of this kind."""
        self.on = self._blobs is not None and self._blobs.kind == kind

    async def lend(self, message: Payload) -> AnyPayload | Reference:
        """What to send in place of a large message: itself where the store does not take it."""
        assert self._blobs is not None
        try:
            name = await self._blobs.put(encode_message(message))
        except FabricError as error:
            log.warning("a large %s travels inline: %s", type(message).__name__, error.message)
            return message  # type: ignore[return-value]
        self._lent.add(name)
        if self._closed:
            self.taken(name)
        return Reference(name)

    async def fetch(self, reference: Reference) -> Payload:
        """The message it stands for, or a `Failure`."""
        if self._blobs is None or not self.on:
            return Failure(FrameInvalid("a reference from a peer with no blob store in common").to_info())
        try:
            return decode_message(await self._blobs.get(reference.name))
        except FabricError as error:
            return Failure(error.to_info())
        finally:  # also when nobody waits for it any more
            self._send(encode(Taken(reference.name)))

    def taken(self, name: bytes) -> None:
        """Names that were not lent on this connection are ignored: a peer frees only what was meant for it."""
        if self._blobs is not None and name in self._lent:
            self._lent.discard(name)
            self._blobs.free(name)

    def close(self) -> None:
        self._closed = True
        for name in list(self._lent):
            self.taken(name)
