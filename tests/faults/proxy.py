"""A TCP proxy that damages what passes through it, for what a network does and an endpoint does not.

Faults are chosen per piece of data on its way back from the upstream, so they hit at any point of an answer: in its
head, between two tokens, within one.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from enum import StrEnum
from types import TracebackType
from typing import Self

DELAY_S = (0.05, 0.5)
PIECE = 64 * 1024
DAMAGE = b"\xff" * 8
"""No UTF-8, no JSON, no chunk length: a reader can tell that it was damaged wherever it lands in the data."""


class Damage(StrEnum):
    """`drop`: nothing is forwarded any more, and nobody is told. `half-close`: the upstream's side is closed in good
    order in the middle of its answer. `corrupt`: bytes are overwritten."""

    DELAY = "delay"
    DROP = "drop"
    RESET = "reset"
    HALF_CLOSE = "half-close"
    CORRUPT = "corrupt"


class FaultProxy:
    """Forwards to 127.0.0.1:`target`. `damage` with probability `share` for each piece; None: faithful."""

    def __init__(self, target: int, seed: int) -> None:
        self.damage: Damage | None = None
        self.share = 0.02
        self.injected = 0
        self._target = target
        self._rng = random.Random(seed)
        self._links: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)
        await self._server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.ensure_future(self._link(reader, writer))
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except ConnectionError:
            writer.transport.abort()
            return
        there = asyncio.ensure_future(_forward(reader, upstream_writer))
        back = asyncio.ensure_future(self._damaged(upstream_reader, writer))
        try:
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            if not there.done():
                # The upstream's side is over: the client is heard until it closes, too.
                await there
        finally:
            for way in (there, back):
                way.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
            upstream_writer.close()
            writer.close()

    async def _damaged(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward what the upstream says, or do to it what is to be done."""
        try:
            while data := await reader.read(PIECE):
                damage = self.damage if self._rng.random() < self.share else None
                self.injected += damage is not None
                match damage:
                    case Damage.DELAY:
                        await asyncio.sleep(self._rng.uniform(*DELAY_S))
                    case Damage.DROP:
                        await asyncio.Event().wait()
                    case Damage.RESET:
                        _reset(writer)
                        return
                    case Damage.HALF_CLOSE:
                        writer.write(data[: len(data) // 2])
                        break
                    case Damage.CORRUPT:
                        at = self._rng.randrange(len(data))
                        data = data[:at] + DAMAGE[: len(data) - at] + data[at + len(DAMAGE) :]
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
        except ConnectionError:
            writer.transport.abort()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
