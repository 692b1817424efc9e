"""WebSocket of one connection, below ASGI: what uvicorn leaves open.

A batch of frames is written whole or not at all, so that what a client was shown is known when it leaves. A client that
reads nothing is given up, and so is one that is dead: closing in good order would wait for it. Whoever sends pings and
does not read gets no pongs, for nothing may pile up here that the client decides on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

from starlette.types import Scope
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from rayflow.api import sse
from rayflow.api.problems import ClientGone

LINE_KEY = "rayflow.line"
MAX_FRAME_BYTES = 256 << 10
"""Of one message; a longer one closes the connection with 1009."""
PING_S = 20.0
"""After so long a ping, and after so long without an answer the end."""
LINGER_S = 1.0
"""A client that was given up may still take its close frame for so long."""
TRY_AGAIN_LATER = 1013
_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Line(WebSocketsSansIOProtocol):
    """`leaving` is set when the server wants this connection closed, as soon as it has nothing to do."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.leaving = asyncio.Event()
        self._stalled: asyncio.TimerHandle | None = None

    @classmethod
    def of(cls, scope: Scope) -> Line:
        return cast(Line, scope[LINE_KEY])

    async def write(self, frames: Iterable[bytes]) -> None:
        """All of them, as text. Waits while the client reads slowly. Raises `ClientGone` where they reached nobody."""
        await self.writable.wait()
        self._check_open()
        for frame in frames:
            self.conn.send_text(frame)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self._check_open()

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye, unless somebody has."""
        await self.writable.wait()
        if not self._closed:
            await self.send({"type": "websocket.close", "code": code, "reason": reason})

    @property
    def _closed(self) -> bool:
        return self.close_sent or self.disconnected or self.transport.is_closing()

    def _check_open(self) -> None:
        if self._closed:
            raise ClientGone("the client disconnected")

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True  # else the server logs that nobody has answered

    # --- for the server ---

    def shutdown(self) -> None:
        if self.close_sent:
            super().shutdown()
        else:
            self.leaving.set()

    # --- for the connection ---

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.handshake_complete:  # else it was refused
            cast("Scope", self.scope)[LINE_KEY] = self

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated and not self.transport.is_closing():
            self.transport.write(b"".join(self.conn.data_to_send()) or _BAD_REQUEST)
            self.transport.close()

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(sse.SLOW_READER_S, self._give_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._go_on()
        super().connection_lost(exc)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.loop.call_later(LINGER_S, self.transport.abort)

    def _go_on(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _give_up(self) -> None:
        reason = f"nothing was read for {sse.SLOW_READER_S:.0f} s"
        self.queue.put_nowait({"type": "websocket.disconnect", "code": TRY_AGAIN_LATER, "reason": reason})
        self.conn.fail(TRY_AGAIN_LATER, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.loop.call_later(LINGER_S, self.transport.abort)
