"""Frames: what goes over a connection, and how bytes become frames again.

A frame is a 4-byte big-endian length and one msgpack array that starts with the frame's kind. Each kind carries only
what it needs: the item of a stream is a number and a message, no address. The message is one of the types that
`rayflow.messages` lists; anything else fails to decode, so a frame from a peer can never run code.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Annotated, cast

import msgspec

from rayflow.context import Context
from rayflow.errors import ErrorInfo, FrameInvalid
from rayflow.messages import AnyPayload, Payload

PROTOCOL_VERSION = 2
MAX_FRAME_BYTES = 64 << 20
_LENGTH = Struct(">I")

Count = Annotated[int, msgspec.Meta(ge=0)]


class Reference(Payload, frozen=True, tag=True):
    """Stands for a large message that lies in the blob store of both ends, under this name."""

    name: bytes


class Hello(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """First frame of both sides. `blobs`: the kind of blob store this side has, or ""."""

    version: int
    endpoint: str
    nonce: str
    blobs: str = ""


class Proof(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Shows that this side knows the secret (see `handshake`)."""

    mac: str


class Tell(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Nobody waits for it, so it has no deadline. `epoch`: of the addressee, as the sender believes; 0: any."""

    to: str
    body: AnyPayload
    epoch: int = 0
    context: Context | None = None


class Ask(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """`id` pairs it with its reply or cancellation. `timeout_s`: time the asker still gives."""

    id: int
    to: str
    body: AnyPayload | Reference
    timeout_s: float = 0.0
    epoch: int = 0
    context: Context | None = None


class Reply(msgspec.Struct, array_like=True, frozen=True, tag=4):
    id: int
    body: AnyPayload | Reference


class Cancel(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """The asker waits no more."""

    id: int


class Open(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """Opens a stream from the sender of this frame. Its ids grow. `timeout_s` 0: no deadline."""

    id: int
    to: str
    body: AnyPayload
    timeout_s: float = 0.0
    epoch: int = 0
    context: Context | None = None


class Item(msgspec.Struct, array_like=True, frozen=True, tag=7):
    id: int
    body: AnyPayload


class End(msgspec.Struct, array_like=True, frozen=True, tag=8):
    """The writer has sent its last item."""

    id: int


class Credit(msgspec.Struct, array_like=True, frozen=True, tag=9):
    """The reader has taken so many items and bytes: the writer may send as many more."""

    id: int
    items: Count
    size: Count


class Close(msgspec.Struct, array_like=True, frozen=True, tag=10):
    """The reader reads no more, and why."""

    id: int
    error: ErrorInfo


class Taken(msgspec.Struct, array_like=True, frozen=True, tag=11):
    """The blob of that name is not needed any more: it was fetched, or nobody waits for it."""

    name: bytes


Frame = Hello | Proof | Tell | Ask | Reply | Cancel | Open | Item | End | Credit | Close | Taken

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode
_decode_message = msgspec.msgpack.Decoder(AnyPayload).decode


def encode_message(message: Payload) -> bytes:
    """A message alone, for the blob store. It was encoded in a frame before."""
    return _encode(message)


def decode_message(data: bytes) -> Payload:
    """Raises `FrameInvalid` for anything but one of our messages."""
    try:
        return cast(Payload, _decode_message(data))
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise FrameInvalid(f"malformed message: {error}") from error


def encode(frame: Frame) -> bytes:
    """The bytes of a frame. Raises `FrameInvalid` for one that no peer would take."""
    try:
        data = _encode(frame)
    except (TypeError, ValueError, OverflowError) as error:
        raise FrameInvalid(f"a {_name(frame)} cannot be sent: {error}") from error
    if len(data) > MAX_FRAME_BYTES:
        raise FrameInvalid(f"a {_name(frame)} of {len(data)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return _LENGTH.pack(len(data)) + data


def _name(frame: Frame) -> str:
    return type(getattr(frame, "body", frame)).__name__


class Splitter:
    """Cuts a stream of bytes into frames. `limit`: longest frame it takes; small until the peer has proved itself.

    `size` is that of the frame `feed` gave last, as the sender counted it.
    """

    __slots__ = ("_have", "_need", "_parts", "limit", "size")

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 0
        self.limit = limit
        self.size = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete now; to be taken to the end. `limit` may rise between two of them.

        Raises `FrameInvalid` as soon as the bytes cannot be a frame.
        """
        if self._parts:  # a long frame is put together once, not with every read
            self._parts.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        view = memoryview(data)
        start, end, need = 0, len(data), 4
        while end - start >= 4:
            (size,) = _LENGTH.unpack_from(data, start)
            if size > self.limit:
                raise FrameInvalid(f"frame of {size} bytes is over the limit of {self.limit}")
            need = 4 + size
            if end - start < need:
                break
            try:
                frame = _decode(view[start + 4 : start + need])
            except (ValueError, TypeError, RecursionError, OverflowError) as error:
                raise FrameInvalid(f"malformed frame: {error}") from error
            start += need
            self.size = need
            need = 4
            yield frame
        if start < end:
            self._parts.append(data[start:])
            self._have, self._need = end - start, need
