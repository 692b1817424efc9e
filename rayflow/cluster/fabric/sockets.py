"""The fabric between processes: unix sockets within a node, TCP between nodes.

Every process listens on one endpoint (`unix:/path` or `tcp:host:port`), and where a system spans nodes on a TCP port as
well, and dials another process when it first has something for it. A connection serves both directions: whoever was
dialled answers, tells, asks and streams over it too.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rayflow.cluster.fabric.blobs import Blobs
from rayflow.cluster.fabric.directory import DirectoryTable
from rayflow.cluster.fabric.handshake import Handshake, Role
from rayflow.cluster.fabric.link import Link
from rayflow.cluster.fabric.mailroom import Mailroom
from rayflow.cluster.fabric.pipe import Pipe
from rayflow.errors import DeadlineExceeded, FabricError, UnknownAddress, from_info
from rayflow.messages import Endpoint, Failure, LinkStats, Payload
from rayflow.runtime.ports import Handler, Outlet, StreamHandler


class SocketFabric:
    """`endpoint`: where to listen; `tcp:host:0` picks a free port (see `endpoint` after `start`). It is the process's
    name to its peers, and unique in the system.

    `secret`: what all processes of one system share. `node`: this machine; peers on others are dialled at their
    `Endpoint.tcp`. `tcp`: where to listen for them (see `tcp` after `start`). `blobs`: how large messages travel.
    """

    def __init__(
        self, endpoint: str, secret: bytes, *, node: str = "", tcp: str = "", blobs: Blobs | None = None
    ) -> None:
        self.endpoint = endpoint
        self.node = node
        self.tcp = tcp
        self._secret = secret
        self._blobs = blobs
        self._directory = DirectoryTable()
        self._directory.on_change(self._retire)
        self._mailroom = Mailroom()
        self._links: dict[str, Link] = {}
        self._all: set[Link] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._lost: list[Callable[[str], None]] = []
        self.dropped = 0
        """Told messages that had nowhere to go."""

    @property
    def directory(self) -> DirectoryTable:
        return self._directory

    async def start(self) -> None:
        self.endpoint = await self._listen(self.endpoint)
        if self.tcp:
            self.tcp = await self._listen(self.tcp)

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for link in list(self._all):
            link.close()
        for dial in list(self._dials):
            dial.cancel()
        await asyncio.gather(*self._dials, return_exceptions=True)
        await asyncio.gather(*(link.ended for link in self._all))
        kind, _, where = self.endpoint.partition(":")
        if kind == "unix":
            Path(where).unlink(missing_ok=True)

    def bind(
        self,
        address: str,
        handlers: Mapping[type[Payload], Handler],
        streams: Mapping[type[Payload], StreamHandler] | None = None,
        *,
        epoch: int = 0,
    ) -> None:
        self._mailroom.bind(address, handlers, streams, epoch)

    def unbind(self, address: str) -> None:
        self._mailroom.unbind(address)

    def on_lost(self, callback: Callable[[str], None]) -> None:
        """Call back with a peer's endpoint when the connection to it breaks."""
        self._lost.append(callback)

    def links(self) -> list[LinkStats]:
        """Every open connection."""
        return [link.stats() for link in self._all if link.open]

    # --- messages ---

    def tell(self, to: str, message: Payload) -> None:
        if to in self._mailroom:
            asyncio.get_running_loop().call_soon(self._mailroom.tell, to, message)
            return
        try:
            link, epoch = self._way_to(to)
            link.tell(to, message, epoch)
        except FabricError:
            self.dropped += 1

    async def ask(self, to: str, message: Payload, timeout_s: float) -> Any:
        if to in self._mailroom:
            return await self._ask_here(to, message, timeout_s)
        link, epoch = self._way_to(to)
        return await link.ask(to, message, timeout_s, epoch)

    def stream(self, to: str, opening: Payload) -> Outlet:
        if to not in self._mailroom:
            try:
                link, epoch = self._way_to(to)
            except UnknownAddress as error:
                pipe = Pipe()
                pipe.lose(error)
                return pipe.outlet
            return link.stream(to, opening, epoch)
        pipe = Pipe()
        pipe.open(self._mailroom, to, opening, 0)
        return pipe.outlet

    async def _ask_here(self, to: str, message: Payload, timeout_s: float) -> Payload:
        if timeout_s <= 0:
            raise DeadlineExceeded(f"no time left to ask {to}", address=to)
        result = self._mailroom.call(to, message, timeout_s)
        if isinstance(result, asyncio.Task):
            try:
                result = await asyncio.wait_for(result, timeout_s)
            except TimeoutError:
                raise DeadlineExceeded(f"{to} did not answer within {timeout_s:.3g} s", address=to) from None
        if isinstance(result, Failure):
            raise from_info(result.error)
        return result

    # --- connections ---

    def _way_to(self, to: str) -> tuple[Link, int]:
        """The connection to whoever has this address, and the incarnation that is meant."""
        entry = self._directory.entry(to)
        if entry is None:
            raise UnknownAddress(f"there is no {to} in the directory (version {self._directory.version})", address=to)
        return self._links.get(entry.endpoint) or self._dial(entry), entry.epoch

    def _dial(self, entry: Endpoint) -> Link:
        link = self._links[entry.endpoint] = self._link("dial", entry.endpoint)
        where = entry.tcp if entry.tcp and entry.node != self.node else entry.endpoint
        # In a context of its own: handlers run in that of their connection, and must not take over our caller's.
        dial = asyncio.get_running_loop().create_task(_connect(where, link), context=contextvars.Context())
        self._dials.add(dial)
        dial.add_done_callback(self._dials.discard)
        return link

    def _link(self, role: Role, expected: str = "") -> Link:
        kind = self._blobs.kind if self._blobs is not None else ""
        handshake = Handshake(role, self.endpoint, self._secret, self._refuses, kind, expected)
        link = Link(handshake, self._mailroom, self._blobs, self._on_open, self._on_closed, expected)
        self._all.add(link)
        return link

    async def _listen(self, where: str) -> str:
        """Returns the endpoint as others can dial it."""
        loop = asyncio.get_running_loop()
        kind, _, place = where.partition(":")
        if kind == "unix":
            Path(place).unlink(missing_ok=True)
            server = await loop.create_unix_server(lambda: self._link("listen"), place, backlog=1024)
            Path(place).chmod(0o600)
        else:
            host, _, port = place.rpartition(":")
            server = await loop.create_server(lambda: self._link("listen"), host, int(port), backlog=1024)
            host, bound = server.sockets[0].getsockname()[:2]
            where = f"tcp:{host}:{bound}"
        self._servers.append(server)
        return where

    def _on_open(self, link: Link) -> None:
        self._links.setdefault(link.peer, link)

    def _on_closed(self, link: Link) -> None:
        self._all.discard(link)
        if self._links.get(link.peer) is link:
            del self._links[link.peer]
            for callback in self._lost:
                callback(link.peer)

    def _refuses(self, endpoint: str) -> bool:
        return endpoint in self._directory.retired

    def _retire(self) -> None:
        """Nothing more from, or to, who was declared dead: what it says late would be said twice."""
        if self._directory.retired:
            for link in [link for link in self._all if link.peer in self._directory.retired]:
                link.abort("it was declared dead")


async def _connect(where: str, link: Link) -> None:
    loop = asyncio.get_running_loop()
    kind, _, place = where.partition(":")
    try:
        if kind == "unix":
            await loop.create_unix_connection(lambda: link, place)
        else:
            host, _, port = place.rpartition(":")
            await loop.create_connection(lambda: link, host, int(port))
    except OSError as error:
        link.lose(error.strerror or str(error))


def private_folder(path: Path) -> Path:
    """A folder only this user can enter. Raises `FabricError` where it belongs to somebody else."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise FabricError(f"{path} belongs to another user: remove it or set TMPDIR to a folder of your own")
    path.chmod(0o700)
    return path
