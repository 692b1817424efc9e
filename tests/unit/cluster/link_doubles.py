"""The other end of a connection, by hand: frames in and out of a plain socket."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

from rayflow.cluster.fabric.frames import PROTOCOL_VERSION, Frame, Hello, Proof, Splitter, encode
from rayflow.cluster.fabric.link import Link
from rayflow.cluster.fabric.sockets import SocketFabric
from rayflow.messages import Endpoint

SECRET = b"a secret that all processes share"
PATIENCE_S = 5.0
NONCE = "ab" * 16

F = TypeVar("F", bound=Frame)


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._splitter = Splitter()
        self._frames: list[Frame] = []

    async def next(self, kind: type[F]) -> F:
        """The next frame, which must be one of this kind."""
        while not self._frames:
            data = await asyncio.wait_for(self.reader.read(65536), PATIENCE_S)
            if not data:
                raise EOFError
            self._frames += self._splitter.feed(data)
        frame = self._frames.pop(0)
        assert isinstance(frame, kind), frame
        return frame

    def send(self, *frames: Frame) -> None:
        self.writer.write(b"".join(map(encode, frames)))

    def hello(self, own: str = "unix:/peer", nonce: str = NONCE, version: int = PROTOCOL_VERSION) -> None:
        self.send(Hello(version, own, nonce))

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    async def dropped(self) -> None:
        """Wait until the other side ends the connection."""
        with suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE_S):
                while await self.reader.read(65536):
                    pass

    async def prove(self, secret: bytes = SECRET, own: str = "unix:/peer") -> None:
        """The dialler's side of the handshake, all but the listener's proof."""
        hello = await self.next(Hello)
        self.hello(own)
        self.send(proof("dial", NONCE, hello.nonce, own, secret))


def proof(role: str, own_nonce: str, other_nonce: str, endpoint: str, secret: bytes = SECRET) -> Proof:
    text = "\n".join(("rayflow", role, own_nonce, other_nonce, endpoint, "")).encode()
    return Proof(hmac.digest(secret, text, "sha256").hex())


@asynccontextmanager
async def dialled(fabric: SocketFabric) -> AsyncIterator[Peer]:
    """We dial the fabric."""
    peer = Peer(*await asyncio.open_unix_connection(fabric.endpoint.removeprefix("unix:")))
    try:
        yield peer
    finally:
        await peer.close()


@asynccontextmanager
async def proved(fabric: SocketFabric) -> AsyncIterator[Peer]:
    """We dial the fabric, and belong to it."""
    async with dialled(fabric) as peer:
        await peer.prove()
        await peer.next(Proof)
        yield peer


@asynccontextmanager
async def listening(fabric: SocketFabric, path: Path) -> AsyncIterator[asyncio.Queue[Peer]]:
    """The fabric dials us, to reach `far/0`. Yields who comes."""
    came: asyncio.Queue[Peer] = asyncio.Queue()
    peers: list[Peer] = []

    def arrive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(Peer(reader, writer))
        came.put_nowait(peers[-1])

    server = await asyncio.start_unix_server(arrive, path)
    fabric.directory.put(Endpoint("far/0", f"unix:{path}"))
    try:
        yield came
    finally:
        server.close()
        for peer in peers:
            await peer.close()


async def accept(came: asyncio.Queue[Peer], path: Path) -> Peer:
    """The listener's side of the handshake, done well."""
    peer = await asyncio.wait_for(came.get(), PATIENCE_S)
    hello = await peer.next(Hello)
    peer.hello(f"unix:{path}")
    await peer.next(Proof)
    peer.send(proof("listen", NONCE, hello.nonce, f"unix:{path}"))
    return peer


async def established(fabric: SocketFabric, endpoint: str) -> Link:
    """The fabric's end of the connection to `endpoint`, once it is open."""
    async with asyncio.timeout(PATIENCE_S):
        while (link := fabric._links.get(endpoint)) is None or not link.open:
            await asyncio.sleep(0)
    return link
