"""Two ways to carry one request to an endpoint.

The fast lane has an HTTP client of its own (`http1`): one call costs less than 0.1 ms of CPU. The SDK lane (`sdk_lane`)
goes through the openai package's own transport at several times that, and is there for what only the package can do:
proxies, compressed answers, its environment of variants. One contract suite runs over both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rayflow.models.address import Address
from rayflow.models.http1 import Endpoint
from rayflow.models.sse import MAX_STREAM_BYTES, StreamTooLarge

CHAT = "/chat/completions"
EMBEDDINGS = "/embeddings"
IDLE_CONNECTION_S = 4.0
"""Below the 5 s after which common servers close an idle connection, so that a request does not meet a closing one."""

BROKEN = OSError
"""What a broken connection raises, on either lane."""


class NoAnswer(Exception):
    """The request got no answer at all; `__cause__` says why."""


class Answer(Protocol):
    """An answer whose head is there and whose body is still to be read."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Looked up by names in lower case."""
        ...

    async def read(self) -> bytes:
        """What has come of the body, at least something; nothing at its end. Raises `BROKEN`."""
        ...

    def ready(self) -> bytes:
        """As `read`, but nothing where it would wait or raise."""
        ...

    async def close(self) -> None:
        """Give the connection back where the body is here to its end, and close it where not."""
        ...


async def read_whole(answer: Answer) -> bytes:
    """The whole body. Raises `StreamTooLarge` and `BROKEN`."""
    parts: list[bytes] = []
    size = 0
    while read := await answer.read():
        parts.append(read)
        size += len(read)
        if size > MAX_STREAM_BYTES:
            raise StreamTooLarge(f"the answer is larger than {MAX_STREAM_BYTES} bytes")
    return b"".join(parts)


class Lane(Protocol):
    async def send(self, body: bytes, traceparent: str = "") -> Answer:
        """Post a request, as part of a trace where there is one. Raises `NoAnswer`."""
        ...

    async def close(self) -> None: ...


class FastLane:
    """`connect_s` bounds the connect."""

    def __init__(self, address: Address, connect_s: float) -> None:
        self._endpoint = Endpoint(address.url, address.headers, connect_s, IDLE_CONNECTION_S)

    async def send(self, body: bytes, traceparent: str = "") -> Answer:
        more = b"traceparent: %s\r\n" % traceparent.encode() if traceparent else b""
        try:
            return await self._endpoint.post(body, more)
        except BROKEN as error:
            raise NoAnswer from error

    async def close(self) -> None:
        self._endpoint.close()
