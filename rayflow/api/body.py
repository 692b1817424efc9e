"""Reading a request's body: never more than the limit, never slower than a slow phone.

A declared length is only a promise: what arrives is counted as well, so a chunked body or a lying Content-Length meets
the same limit.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from starlette.types import Receive

from rayflow.api import ijson
from rayflow.api.headers import Headers
from rayflow.api.problems import BodyTooSlow, ClientGone, UnsupportedMediaType
from rayflow.config.schema import SecurityConfig
from rayflow.errors import BodyTooLarge

FIRST_BYTE_S = 5.0
MIN_BYTES_PER_S = 500.0
LINGER_S = 2.0
LINGER_BYTES = 64 << 20


def has_body(headers: Headers) -> bool:
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


async def read_json(headers: Headers, receive: Receive, limits: SecurityConfig) -> Any:
    """The body as a JSON value.

    Raises `UnsupportedMediaType`, `BodyTooLarge`, `BodyTooSlow`, `InvalidEncoding`, `InvalidJson`, and `ClientGone`
    when the client leaves before it has sent everything.
    """
    media = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media != b"application/json":
        # A browser sends other types to any site without asking first; this one it must ask for (CORS preflight).
        raise UnsupportedMediaType("send the body as Content-Type: application/json", param="content-type")
    body = await read_body(headers, receive, limits.max_body_bytes)
    return ijson.loads(body, limits.max_json_depth)


async def read_body(headers: Headers, receive: Receive, limit_bytes: int) -> bytes:
    """The whole body, in memory. Raises `BodyTooLarge` before reading past the limit, `BodyTooSlow`, `ClientGone`."""
    if int(headers.get(b"content-length", b"0")) > limit_bytes:
        raise too_large(limit_bytes)
    loop = asyncio.get_running_loop()
    started = loop.time()
    received = bytearray()
    while True:
        try:
            async with asyncio.timeout_at(started + FIRST_BYTE_S + len(received) / MIN_BYTES_PER_S):
                message = await receive()
        except TimeoutError:
            raise BodyTooSlow(f"{len(received)} bytes of the body came in {loop.time() - started:.0f} s") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        received += message.get("body", b"")
        if len(received) > limit_bytes:
            raise too_large(limit_bytes)
        if not message.get("more_body", False):
            return bytes(received)


async def discard(receive: Receive) -> None:
    """Take what a client still sends, keep none of it, and stop after `LINGER_S` or `LINGER_BYTES`.

    A client that is cut off while it sends sees a broken connection instead of the answer that waits for it.
    """
    taken = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while taken < LINGER_BYTES:
                message = await receive()
                taken += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {limit_bytes} bytes", limit_bytes=limit_bytes)
