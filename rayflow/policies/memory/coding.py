"""A memory as the bytes of its record: compressed where that helps."""

from __future__ import annotations

import zlib

import msgspec

from rayflow.messages.memory import Memory

WORTH = 256
"""Shorter ones are kept as they are."""
_PLAIN, _DEFLATED = b"\x00", b"\x01"
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Memory)


def encode(memory: Memory) -> bytes:
    plain = _encoder.encode(memory)
    if len(plain) >= WORTH:
        deflated = zlib.compress(plain)
        if len(deflated) < len(plain):
            return _DEFLATED + deflated
    return _PLAIN + plain


def decode(value: bytes) -> Memory:
    """Raises ValueError for what `encode` did not make."""
    try:
        return _decoder.decode(zlib.decompress(value[1:]) if value[:1] == _DEFLATED else value[1:])
    except (zlib.error, msgspec.DecodeError) as error:
        raise ValueError(f"not a memory: {error}") from None
