"""Frames: what goes over a connection, and how bytes become frames again.

A frame is a 4-byte big-endian length and one msgpack array. The body is one of the message types that
`rayflow.messages` lists; anything else fails to decode, so a frame from a peer can never run code.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct

import msgspec

from rayflow.errors import FrameInvalid
from rayflow.messages import AnyPayload

PROTOCOL_VERSION = 1
MAX_FRAME_BYTES = 64 << 20
_LENGTH = Struct(">I")


class Kind(IntEnum):
    HELLO = 0
    PROOF = 1
    TELL = 2
    ASK = 3
    REPLY = 4
    CANCEL = 5


class Frame(msgspec.Struct, array_like=True, frozen=True):
    """`id` pairs an ask with its reply or cancellation. `timeout_s`: time the asker still gives. `text`: handshake
    data."""

    kind: int
    id: int = 0
    to: str = ""
    body: AnyPayload | None = None
    timeout_s: float = 0.0
    text: tuple[str, ...] = ()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode


def encode(frame: Frame) -> bytes:
    """The bytes of a frame. Raises `FrameInvalid` for one that no peer would take."""
    try:
        body = _encode(frame)
    except (TypeError, ValueError, OverflowError) as error:
        raise FrameInvalid(f"a {type(frame.body).__name__} cannot be sent: {error}") from error
    if len(body) > MAX_FRAME_BYTES:
        raise FrameInvalid(f"a {type(frame.body).__name__} of {len(body)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return _LENGTH.pack(len(body)) + body


class Splitter:
    """Cuts a stream of bytes into frames. `limit`: longest frame it takes; small until the peer has proved itself."""

    __slots__ = ("_buffer", "limit")

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self._buffer = b""
        self.limit = limit

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete now; to be taken to the end. `limit` may rise between two of them.

        Raises `FrameInvalid` as soon as the bytes cannot be a frame.
        """
        buffer = self._buffer + data if self._buffer else data
        view = memoryview(buffer)
        start, end = 0, len(buffer)
        while end - start >= 4:
            (size,) = _LENGTH.unpack_from(buffer, start)
            if size > self.limit:
                raise FrameInvalid(f"frame of {size} bytes is over the limit of {self.limit}")
            if end - start - 4 < size:
                break
            try:
                frame = _decode(view[start + 4 : start + 4 + size])
            except (ValueError, TypeError, RecursionError, OverflowError) as error:
                raise FrameInvalid(f"malformed frame: {error}") from error
            start += 4 + size
            yield frame
        self._buffer = buffer[start:]
