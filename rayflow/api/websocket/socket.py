"""One open WebSocket: what its client says is read, checked and passed on, until one of the two sides has enough."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import NamedTuple

from starlette.types import Message, Receive

from rayflow.api import ijson
from rayflow.api.chat import Chat
from rayflow.api.exchange import Exchange
from rayflow.api.problems import ClientGone, explained
from rayflow.api.websocket.encoder import error_frame, frame
from rayflow.api.websocket.frames import Ping, Resume, Stop, frame_of, number_of
from rayflow.api.websocket.jobs import Jobs
from rayflow.api.websocket.line import Line
from rayflow.errors import RateLimited, Unavailable
from rayflow.policies.gcra import Rate

MAX_REFUSED = 100
"""So many messages in a row that come too fast are no mistake."""


class Closing(NamedTuple):
    """Codes: RFC 6455 section 7.4.1, and IANA's registry for 1012."""

    code: int
    reason: str


IDLE = Closing(1001, "nothing was asked for too long")
BINARY = Closing(1003, "frames are JSON as text")
FLOOD = Closing(1008, "too many messages")
RESTART = Closing(1012, "the server is stopping or has a new configuration: connect again")


class Socket:
    """`exchange`: the handshake."""

    def __init__(self, chat: Chat, exchange: Exchange, line: Line, receive: Receive) -> None:
        limits = chat.runs.client.config.security
        self._limits = limits
        self._exchange = exchange
        self._line = line
        self._receive = receive
        self._jobs = Jobs(chat, exchange, self._tell)
        self._rate = Rate(limits.websocket_messages_per_s, 1.0, max(2 * limits.websocket_messages_per_s, 1.0))
        self._taken = 0.0
        self._refused = 0

    async def serve(self) -> None:
        """Until it is closed. Who cancels this is the server, when it can wait no longer."""
        leaving = asyncio.create_task(self._leave())
        closing: Closing | None = None
        try:
            with suppress(ClientGone):
                closing = await self._read()
        except asyncio.CancelledError:
            closing = RESTART
            leaving.cancel()
            with suppress(ClientGone):
                await self._jobs.cut()
        finally:
            leaving.cancel()
            await self._jobs.close()
        if closing is not None:
            await self._line.close(*closing)

    async def _leave(self) -> None:
        await self._line.leaving.wait()
        await self._jobs.idle()
        await self._line.close(*RESTART)

    async def _read(self) -> Closing | None:
        """Why to close it; None where the client has, or nobody need be told."""
        while True:
            try:
                async with asyncio.timeout(self._limits.websocket_idle_s):
                    message = await self._receive()
            except TimeoutError:
                if self._jobs:
                    continue
                return IDLE
            if message["type"] == "websocket.disconnect":
                return None
            if message.get("text") is None:
                return BINARY
            if await self._paced():
                await self._take(message)
            elif self._refused > MAX_REFUSED:
                return FLOOD

    async def _paced(self) -> bool:
        """Whether there was time enough since the last ones."""
        now = asyncio.get_running_loop().time()
        wait_s = self._rate.wait_s(self._taken, now)
        if not wait_s:
            self._taken = self._rate.taken(self._taken, now)
            self._refused = 0
            return True
        self._refused += 1
        pace = f"{self._limits.websocket_messages_per_s:g} messages a second are taken from one WebSocket"
        await self._tell(error_frame(RateLimited(pace, retry_after_s=wait_s), self._exchange.id))
        return False

    async def _take(self, message: Message) -> None:
        number = None
        try:
            raw = ijson.loads(message["text"].encode(), self._limits.max_json_depth)
            number = number_of(raw)
            match frame_of(raw):
                case Ping():
                    await self._tell(frame("pong", id=number))
                case Stop() as stop:
                    self._jobs.stop(stop)
                case _ if self._line.leaving.is_set():
                    raise Unavailable("this WebSocket is about to close: open another one", retry_after_s=1)
                case Resume() as resume:
                    self._jobs.resume(resume)
                case said:
                    self._jobs.begin(said)
        except ClientGone:
            raise
        except Exception as error:
            await self._tell(error_frame(explained(error, self._exchange.id), self._exchange.id, id=number))

    async def _tell(self, frames: bytes) -> None:
        await self._line.write(frames.split(b"\n")[:-1])
