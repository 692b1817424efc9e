"""Two ways to carry one request to an endpoint.

The fast lane has an HTTP client of its own (`http1`): one call costs less than 0.1 ms of CPU. The SDK lane goes
through the openai package's own transport at several times that, and is there for what only the package can do:
proxies, compressed answers, its environment of variants. Both take the address, keys and headers from the same
`AsyncOpenAI` object, and one contract suite runs over both.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Protocol, cast
from urllib.request import getproxies, proxy_bypass

import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, AsyncStream, RequestOptions

from rayflow.models.http1 import Endpoint
from rayflow.models.sse import MAX_STREAM_BYTES, StreamTooLarge

CHAT = "/chat/completions"
EMBEDDINGS = "/embeddings"
MAX_CONNECTIONS = 10_000
"""The agent's own limit (replicas.max_in_flight) is the one that counts; the pool must never be a hidden second one."""
IDLE_CONNECTION_S = 4.0
"""Below the 5 s after which common servers close an idle connection, so that a request does not meet a closing one."""

BROKEN = (httpx2.HTTPError, OSError)
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

    def reads(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives. Raises one of `BROKEN`."""
        ...

    async def close(self) -> None:
        """Give the connection back where the body is here to its end, and close it where not."""
        ...


async def read_whole(answer: Answer) -> bytes:
    """The whole body. Raises `StreamTooLarge` and one of `BROKEN`."""
    parts: list[bytes] = []
    size = 0
    async with aclosing(answer.reads()) as reads:
        async for read in reads:
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


class SdkLane:
    def __init__(self, sdk: AsyncOpenAI, path: str) -> None:
        self._sdk = sdk
        self._url = str(_target(sdk, path))
        self._headers = _basic_auth(sdk)
        self._options: RequestOptions = {"headers": self._headers}

    async def send(self, body: bytes, traceparent: str = "") -> Answer:
        options = self._options
        if traceparent:
            options = {"headers": {**self._headers, "traceparent": traceparent}}
        try:
            # The SDK hands a raw response on as it is, unread, whatever its types say about streams.
            stream = self._sdk.post(
                self._url,
                content=body,
                cast_to=httpx2.Response,
                options=options,
                stream=True,
                stream_cls=AsyncStream[object],
            )
            return _SdkAnswer(cast(httpx2.Response, await stream))
        except APIStatusError as error:
            return _SdkAnswer(error.response)
        except (APIConnectionError, *BROKEN) as error:
            raise NoAnswer from error

    async def close(self) -> None:
        await self._sdk.close()


class _SdkAnswer:
    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers

    async def reads(self) -> AsyncGenerator[bytes, None]:
        if self._response.is_closed:
            yield self._response.content
            return
        async for read in self._response.aiter_bytes():
            yield read

    async def close(self) -> None:
        await self._response.aclose()


class FastLane:
    """`sdk` gives the address and the headers, which do not change; `connect_s` bounds the connect."""

    def __init__(self, sdk: AsyncOpenAI, path: str, connect_s: float) -> None:
        self._sdk = sdk
        headers = {
            name.lower(): value
            for part in (sdk.auth_headers, sdk.default_headers, _basic_auth(sdk))
            for name, value in part.items()
            if isinstance(value, str)
        }
        self._endpoint = Endpoint(str(_target(sdk, path)), headers, connect_s, IDLE_CONNECTION_S)

    async def send(self, body: bytes, traceparent: str = "") -> Answer:
        more = b"traceparent: %s\r\n" % traceparent.encode() if traceparent else b""
        try:
            return await self._endpoint.post(body, more)
        except OSError as error:
            raise NoAnswer from error

    async def close(self) -> None:
        self._endpoint.close()
        await self._sdk.close()


def needs_sdk(sdk: AsyncOpenAI) -> bool:
    """Whether only the SDK lane gets there: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY say so."""
    url = sdk.base_url
    proxies = getproxies()
    if url.host and proxy_bypass(url.host):
        return False
    return bool(proxies.get(url.scheme) or proxies.get("all"))


def _target(sdk: AsyncOpenAI, path: str) -> httpx2.URL:
    """Where requests are posted: the path goes before a query, and a user and password are no part of it."""
    base, mark, query = sdk.base_url.raw_path.partition(b"?")
    return sdk.base_url.copy_with(
        raw_path=base.rstrip(b"/") + path.encode() + mark + query, userinfo=b"", fragment=None
    )


def _basic_auth(sdk: AsyncOpenAI) -> dict[str, str]:
    """A user and password in the address come before the key, as in the SDK's own transport."""
    url = sdk.base_url
    if not url.userinfo:
        return {}
    return {"Authorization": f"Basic {b64encode(f'{url.username}:{url.password}'.encode()).decode()}"}
