"""Large messages through Ray's object store: written once into shared memory, read from there on the same node, pulled
by Ray from another, and never in the way of the tokens on a connection.

Why a name that a peer sends can do no harm:

- Nothing is unpickled. Ray stores `bytes` as they are, marked RAW. `get` takes the stored buffer itself, before Ray's
  deserialisation, and refuses any other mark, so an object that somebody put there with pickle is never loaded.
- A name is an object's id and its owner's address. Ray ends the process over an address it cannot parse, or ids of the
  wrong length (measured with 2.60), so both are checked here first. Well-formed but wrong ones only fail.
- What comes out is decoded as one of the messages that `rayflow.messages` lists, like any frame.

The owner holds the object until the peer has taken it, and a minute at most.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import ray
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from ray.core.generated.common_pb2 import Address  # type: ignore[attr-defined]

from rayflow.errors import FabricError, PeerLost

HELD_BYTES = 64 << 20
"""Most that one process keeps in the store for its peers; beyond that messages travel inline."""
HELD_S = 60.0
FETCH_S = 10.0
ID_BYTES = 28
RAW = b"RAW"


class Name(msgspec.Struct, array_like=True, frozen=True):
    """`owner`: address of the process that holds the object, as Ray writes it."""

    object: bytes
    owner: bytes


class Held(msgspec.Struct, frozen=True):
    """`ref` keeps the object alive."""

    ref: Any
    size: int
    expiry: asyncio.TimerHandle


class RayBlobs:
    """A `fabric.blobs.Blobs`. Make it in a process that Ray knows."""

    def __init__(self) -> None:
        self.kind = f"ray:{ray.get_runtime_context().gcs_address}"
        self._worker: Any = ray._private.worker.global_worker.core_worker  # type: ignore[attr-defined]
        self._held: dict[bytes, Held] = {}
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    async def put(self, data: bytes) -> bytes:
        if self._held_bytes + len(data) > HELD_BYTES:
            raise FabricError(f"{self._held_bytes} bytes wait in the object store already", held=self._held_bytes)
        self._held_bytes += len(data)
        try:
            ref = await asyncio.to_thread(ray.put, data)
            name = msgspec.msgpack.encode(Name(ref.binary(), self._worker.get_owner_address(ref)))
        except BaseException as error:
            self._held_bytes -= len(data)
            if isinstance(error, ray.exceptions.RayError):
                raise FabricError(f"the object store took no blob of {len(data)} bytes: {error}") from error
            raise
        expiry = asyncio.get_running_loop().call_later(HELD_S, self.free, name)
        self._held[name] = Held(ref, len(data), expiry)
        return name

    async def get(self, name: bytes) -> bytes:
        """Raises `PeerLost` where the object is gone, `FabricError` for what is no blob of ours."""
        found = _parse(name)
        return await asyncio.to_thread(self._read, found)

    def free(self, name: bytes) -> None:
        if held := self._held.pop(name, None):
            held.expiry.cancel()
            self._held_bytes -= held.size

    def _read(self, name: Name) -> bytes:
        ref: Any = ray.ObjectRef(name.object, name.owner, "")  # type: ignore[arg-type]
        try:
            self._worker.deserialize_and_register_object_ref(name.object, ray.ObjectRef.nil(), name.owner, b"")
            ((data, mark, _),) = self._worker.get_objects([ref], int(FETCH_S * 1000))
        except (ray.exceptions.RayError, ValueError) as error:
            raise PeerLost(f"a blob could not be fetched: {type(error).__name__}") from error
        if data is None:
            raise PeerLost("a blob is gone from the object store, or its owner is")
        if mark != RAW:
            raise FabricError(f"an object marked {mark!r} is no blob of ours and is not read")
        return bytes(data.to_pybytes())


def _parse(name: bytes) -> Name:
    """Raises `FabricError` for anything Ray itself would not survive."""
    try:
        found = msgspec.msgpack.decode(name, type=Name)
        owner = Address.FromString(found.owner)
    except (msgspec.MsgspecError, DecodeError) as error:
        raise FabricError(f"a malformed name of a blob: {error}") from error
    if {len(found.object), len(owner.node_id), len(owner.worker_id)} != {ID_BYTES} or not owner.ip_address:
        raise FabricError("a malformed name of a blob: its ids have the wrong length")
    return Name(found.object, owner.SerializeToString())
