"""Who may open a WebSocket, and as whom: all is decided before the connection is one, and refused as any request is.

A page in a browser cannot set headers, so its key comes as a subprotocol, next to the protocol's own name, as with
Kubernetes' API server; only the name is echoed. What a browser does say, and a page cannot change, is which site the
page is of: without looking at it, any site could talk to a server on its visitor's own computer (cross-site WebSocket
hijacking). The address that the browser called is no help there, for the site may have given it its own name (DNS
rebinding), so that it counts only where a key is asked for.
"""

from __future__ import annotations

import binascii
import time
from base64 import urlsafe_b64decode
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import Receive, Scope, Send

from rayflow.api.auth import ApiKeys, presented
from rayflow.api.chat import Chat
from rayflow.api.exchange import Exchange
from rayflow.api.headers import Headers, read_headers
from rayflow.api.metrics import Metrics
from rayflow.api.problems import OriginNotAllowed, answer, explained
from rayflow.api.trace import traceparent
from rayflow.api.websocket.line import Line
from rayflow.api.websocket.socket import Socket
from rayflow.context import Context, context
from rayflow.errors import AuthenticationError, NotFound
from rayflow.ids import new_run_id

PATH = "/ws"
SUBPROTOCOL = "rayflow.v1"
KEY_PREFIX = "rayflow.key."


class Handshake:
    """The ASGI application of WebSockets."""

    def __init__(self, chat: Chat, keys: ApiKeys, metrics: Metrics) -> None:
        self._chat = chat
        self._keys = keys
        self._metrics = metrics
        self._origins = frozenset(chat.runs.client.config.security.websocket_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        exchange = Exchange(new_run_id(), send)
        path, status = scope["path"], 101
        try:
            self._check(exchange, scope)
        except Exception as error:
            status, headers, body = answer(explained(error, exchange.id), path, exchange.id)
            headers.append((b"x-request-id", exchange.id.encode()))
            await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
            await send({"type": "websocket.http.response.body", "body": body})
        finally:
            self._metrics.request(path if path == PATH else "other", status, time.perf_counter() - started)
        if status == 101:
            await self._open(exchange, scope, receive, send)

    def _check(self, exchange: Exchange, scope: Scope) -> None:
        headers = exchange.headers = read_headers(scope["headers"])
        key = _offered_key(scope["subprotocols"])
        if key and not presented(headers):
            headers[b"authorization"] = b"Bearer " + key
        exchange.tenant = self._keys.check(scope["path"], headers)
        self._check_origin(headers)
        if scope["path"] != PATH:
            raise NotFound(f"no such route; WebSockets are opened at {PATH}", kind="route")

    def _check_origin(self, headers: Headers) -> None:
        origin = headers.get(b"origin", b"").decode("latin-1")
        if not origin or origin in self._origins:  # other clients than browsers send none
            return
        if not self._origins:
            called = headers[b"host"].decode("latin-1").lower()
            if _is_of_this_computer(origin) or (self._keys and origin.lower().partition("://")[2] == called):
                return
        raise OriginNotAllowed(
            f"pages of {origin[:200]} may not connect; add it to security.websocket_origins if they should",
            param="origin",
        )

    async def _open(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(
            {
                "type": "websocket.accept",
                "subprotocol": SUBPROTOCOL if SUBPROTOCOL in scope["subprotocols"] else None,
                "headers": [(b"x-request-id", exchange.id.encode())],
            }
        )
        context.set(Context(traceparent(exchange.headers), exchange.tenant))
        socket = Socket(self._chat, exchange, Line.of(scope), receive)
        self._metrics.sockets.add(socket)
        try:
            await socket.serve()
        finally:
            self._metrics.sockets.remove(socket)


def _offered_key(subprotocols: list[str]) -> bytes:
    """The key among the subprotocols; empty where there is none. Raises `AuthenticationError` for one that is not
    base64url."""
    for name in subprotocols:
        if name.startswith(KEY_PREFIX):
            text = name.removeprefix(KEY_PREFIX)
            try:
                return urlsafe_b64decode(text + "=" * (-len(text) % 4))
            except (binascii.Error, ValueError):
                raise AuthenticationError(f"the subprotocol {KEY_PREFIX}... must end in the key as base64url") from None
    return b""


def _is_of_this_computer(origin: str) -> bool:
    try:
        host = urlsplit(origin).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
