"""The outermost layer: what every request passes, whatever its route.

In order: an id, the header rules, the key, the trace, then the route; any error becomes the answer of its path's kind,
and the answer is counted. Routes that carry load are looked up in a dict and called at once; the rest goes through
FastAPI. Plain ASGI, because each layer of framework middleware costs a hot request tens of microseconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from rayflow.api import sse
from rayflow.api.auth import ApiKeys
from rayflow.api.body import discard
from rayflow.api.exchange import SCOPE_KEY, Exchange
from rayflow.api.headers import read_headers
from rayflow.api.metrics import Metrics
from rayflow.api.problems import ClientGone, answer, explained, is_openai, openai_error, problem
from rayflow.api.runs import RunStream
from rayflow.api.trace import traceparent
from rayflow.context import Context, context
from rayflow.errors import BodyTooLarge, Unavailable
from rayflow.ids import new_run_id

log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]


class Edge:
    """The ASGI application. `hot`: handlers by (method, path); `sockets`: WebSockets; `app`: everything else."""

    def __init__(
        self,
        app: ASGIApp,
        hot: Mapping[tuple[str, str], Handler],
        sockets: ASGIApp,
        keys: ApiKeys,
        metrics: Metrics,
    ) -> None:
        self.app = app
        self._sockets = sockets
        self._hot = hot
        self._keys = keys
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)
        else:
            await self._sockets(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        exchange = scope[SCOPE_KEY] = Exchange(new_run_id(), send)
        path: str = scope["path"]
        handler = self._hot.get((scope["method"], path))
        response: Response | None = None
        try:
            exchange.headers = read_headers(scope["headers"])
            exchange.tenant = self._keys.check(path, exchange.headers)
            trace = traceparent(exchange.headers)
            if trace or exchange.tenant:
                context.set(Context(trace, exchange.tenant))
            if handler is None:
                await self.app(scope, receive, exchange.send)
            else:
                response = await handler(Request(scope, receive))
                await response(scope, receive, exchange.send)
        except ClientGone as gone:
            exchange.status = gone.status
            log.info("request %s: %s", exchange.id, gone)
        except asyncio.CancelledError:
            # Only the server cancels a request, when its drain budget is spent.
            await self._cut(exchange, path, response, receive)
        except Exception as error:
            await self._refuse(exchange, path, error, receive)
        finally:
            route = path if handler is not None else getattr(scope.get("route"), "path_format", "other")
            self._metrics.request(route, exchange.status or ClientGone.status, time.perf_counter() - started)

    async def _cut(self, exchange: Exchange, path: str, response: Response | None, receive: Receive) -> None:
        """Tell the client that its request could not be waited for; a stream that has begun says so as its last
        event."""
        stopping = Unavailable("the server stopped before this request was finished: send it again", retry_after_s=1)
        if exchange.complete:
            return
        if exchange.status and isinstance(response, RunStream):
            event = (
                b"data: " + openai_error(stopping) + b"\n\n"
                if is_openai(path)
                else sse.event({"type": "error", "error": problem(stopping, exchange.id)})
            )
            await exchange.send({"type": "http.response.body", "body": event})
        else:
            await self._refuse(exchange, path, stopping, receive)

    async def _refuse(self, exchange: Exchange, path: str, error: Exception, receive: Receive) -> None:
        refusal = explained(error, exchange.id)
        if not exchange.status:
            status, headers, body = answer(refusal, path, exchange.id)
            await exchange.send({"type": "http.response.start", "status": status, "headers": headers})
            if isinstance(refusal, BodyTooLarge):
                await exchange.send({"type": "http.response.body", "body": body, "more_body": True})
                await discard(receive)
                body = b""
            await exchange.send({"type": "http.response.body", "body": body})
        elif not exchange.complete:
            raise error  # the server cuts the connection: a torn answer must not look whole
