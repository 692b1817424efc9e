"""What stands between the port and the application: it can be shut, opened, given another application, and left, while
requests keep coming. A request that is inside stays with the application it entered."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rayflow.api.problems import answer
from rayflow.errors import Unavailable
from rayflow.ids import new_run_id


class Door:
    """An ASGI application. `app`: what is behind it; None while it is shut, then all but `/healthz` is answered 503.

    `leaving`: `/readyz` is answered 503, and everything else as before.
    """

    def __init__(self, app: ASGIApp | None = None) -> None:
        self.app = app
        self.leaving = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.leaving and scope.get("path") == "/readyz":
            await _refuse(scope["path"], "the server is stopping: send new requests elsewhere", send)
        elif self.app is not None:
            await self.app(scope, receive, _parting(send) if self.leaving else send)
        elif scope.get("path") == "/healthz":
            await _answer(200, [(b"content-type", b"application/json")], b'{"status":"ok"}', send)
        elif scope["type"] != "lifespan":
            kind = "" if scope["type"] == "http" else "websocket."
            await _refuse(scope["path"], "the workflow is starting: try again shortly", send, kind)


def _parting(send: Send) -> Send:
    """What becomes of the connection is the server's to say now, whatever the application promises."""

    async def part(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [header for header in message["headers"] if header[0] != b"connection"]
        await send(message)

    return part


async def _refuse(path: str, why: str, send: Send, kind: str = "") -> None:
    await _answer(*answer(Unavailable(why, retry_after_s=1), path, new_run_id()), send, kind)


async def _answer(status: int, headers: list[tuple[bytes, bytes]], body: bytes, send: Send, kind: str = "") -> None:
    """`kind`: what stands before the type of messages; WebSockets that are not opened have `websocket.`."""
    await send({"type": f"{kind}http.response.start", "status": status, "headers": headers})
    await send({"type": f"{kind}http.response.body", "body": body})
