"""The way to an endpoint through the openai package's own transport."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import cast

import httpx2
from openai import (
    APIConnectionError,
    APIStatusError,
    AsyncOpenAI,
    AsyncStream,
    DefaultAioHttpClient,
    RequestOptions,
)

from rayflow.models.address import Address
from rayflow.models.http1 import BrokenAnswer
from rayflow.models.lanes import BROKEN, IDLE_CONNECTION_S, Answer, NoAnswer

MAX_CONNECTIONS = 10_000
"""The agent's own limit (replicas.max_in_flight) is the one that counts; the pool must never be a hidden second one."""


def sdk_client(
    api_key: str,
    base_url: str | None,
    organization: str | None,
    project: str | None,
    headers: Mapping[str, str] | None,
    connect_s: float,
) -> AsyncOpenAI:
    """It never retries, and its calls have no limit but that of the connect: callers have better ones."""
    limits = httpx2.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=IDLE_CONNECTION_S)
    return AsyncOpenAI(
        api_key=api_key,
        base_url=base_url,
        organization=organization,
        project=project,
        default_headers=headers,
        max_retries=0,
        timeout=httpx2.Timeout(None, connect=connect_s),
        http_client=DefaultAioHttpClient(limits=limits, follow_redirects=False),
    )


class SdkLane:
    """`address`: where requests go; its user and password go with them, which the package leaves to its transport."""

    def __init__(self, sdk: AsyncOpenAI, address: Address) -> None:
        self._sdk = sdk
        self._url = address.url
        self._headers: dict[str, str] = {}
        if address.headers["authorization"].startswith("Basic "):
            self._headers["Authorization"] = address.headers["authorization"]
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
        except (APIConnectionError, httpx2.HTTPError, BROKEN) as error:
            raise NoAnswer from error

    async def close(self) -> None:
        await self._sdk.close()


class _SdkAnswer:
    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._reads = self._body()

    async def read(self) -> bytes:
        return await anext(self._reads, b"")

    def ready(self) -> bytes:
        return b""

    async def _body(self) -> AsyncGenerator[bytes, None]:
        if self._response.is_closed:
            yield self._response.content
            return
        try:
            async for read in self._response.aiter_bytes():
                yield read
        except httpx2.HTTPError as error:
            raise BrokenAnswer(str(error)) from error

    async def close(self) -> None:
        await self._reads.aclose()
        await self._response.aclose()
