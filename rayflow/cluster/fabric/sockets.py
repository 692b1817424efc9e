"""The fabric between processes: unix sockets within a node, TCP between nodes.

Every process listens on one endpoint (`unix:/path` or `tcp:host:port`) and dials another process when it first has
something for it. A connection serves both directions: whoever was dialled answers, tells and asks over it too.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rayflow.cluster.fabric.directory import DirectoryTable
from rayflow.cluster.fabric.link import Link, Role
from rayflow.cluster.fabric.mailroom import Mailroom
from rayflow.errors import DeadlineExceeded, FabricError, UnknownAddress, from_info
from rayflow.messages import Failure, Payload
from rayflow.runtime.ports import Handler


class SocketFabric:
    """`endpoint`: where to listen; `tcp:host:0` picks a free port (see `endpoint` after `start`).

    `secret`: what all processes of one system share.
    """

    def __init__(self, endpoint: str, secret: bytes) -> None:
        self.endpoint = endpoint
        self._secret = secret
        self._directory = DirectoryTable()
        self._mailroom = Mailroom()
        self._links: dict[str, Link] = {}
        self._all: set[Link] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._lost: list[Callable[[str], None]] = []
        self.dropped = 0
        """Told messages that could not be delivered."""

    @property
    def directory(self) -> DirectoryTable:
        return self._directory

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        kind, _, where = self.endpoint.partition(":")
        if kind == "unix":
            Path(where).unlink(missing_ok=True)
            self._server = await loop.create_unix_server(lambda: self._link("listen"), where, backlog=1024)
            Path(where).chmod(0o600)
        else:
            host, _, port = where.rpartition(":")
            self._server = await loop.create_server(lambda: self._link("listen"), host, int(port), backlog=1024)
            host, bound = self._server.sockets[0].getsockname()[:2]
            self.endpoint = f"tcp:{host}:{bound}"

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for link in list(self._all):
            link.close()
        for dial in list(self._dials):
            dial.cancel()
        await asyncio.gather(*self._dials, return_exceptions=True)
        await asyncio.gather(*(link.ended for link in self._all))
        kind, _, where = self.endpoint.partition(":")
        if kind == "unix":
            Path(where).unlink(missing_ok=True)

    def bind(self, address: str, handlers: Mapping[type[Payload], Handler]) -> None:
        self._mailroom.bind(address, handlers)

    def unbind(self, address: str) -> None:
        self._mailroom.unbind(address)

    def on_lost(self, callback: Callable[[str], None]) -> None:
        """Call back with a peer's endpoint when the connection to it breaks."""
        self._lost.append(callback)

    def tell(self, to: str, message: Payload) -> None:
        if to in self._mailroom:
            asyncio.get_running_loop().call_soon(self._mailroom.tell, to, message)
            return
        try:
            self._link_to(to).tell(to, message)
        except FabricError:
            self.dropped += 1

    async def ask(self, to: str, message: Payload, timeout_s: float) -> Any:
        if to in self._mailroom:
            return await self._ask_here(to, message, timeout_s)
        return await self._link_to(to).ask(to, message, timeout_s)

    async def _ask_here(self, to: str, message: Payload, timeout_s: float) -> Payload:
        result = self._mailroom.call(to, message, timeout_s)
        if isinstance(result, asyncio.Task):
            try:
                result = await asyncio.wait_for(result, timeout_s)
            except TimeoutError:
                raise DeadlineExceeded(f"{to} did not answer within {timeout_s:.3g} s", address=to) from None
        if isinstance(result, Failure):
            raise from_info(result.error)
        return result

    def _link_to(self, to: str) -> Link:
        endpoint = self._directory.endpoint(to)
        if endpoint is None:
            raise UnknownAddress(f"there is no {to} in the directory (version {self._directory.version})", address=to)
        link = self._links.get(endpoint)
        if link is None:
            link = self._links[endpoint] = self._link("dial")
            link.peer = endpoint
            dial = asyncio.get_running_loop().create_task(self._dial(endpoint, link))
            self._dials.add(dial)
            dial.add_done_callback(self._dials.discard)
        return link

    def _link(self, role: Role) -> Link:
        link = Link(role, self.endpoint, self._secret, self._mailroom, self._on_open, self._on_closed)
        self._all.add(link)
        return link

    async def _dial(self, endpoint: str, link: Link) -> None:
        loop = asyncio.get_running_loop()
        kind, _, where = endpoint.partition(":")
        try:
            if kind == "unix":
                await loop.create_unix_connection(lambda: link, where)
            else:
                host, _, port = where.rpartition(":")
                await loop.create_connection(lambda: link, host, int(port))
        except OSError as error:
            link.lose(error.strerror or str(error))

    def _on_open(self, link: Link) -> None:
        self._links.setdefault(link.peer, link)

    def _on_closed(self, link: Link) -> None:
        self._all.discard(link)
        if self._links.get(link.peer) is link:
            del self._links[link.peer]
            for callback in self._lost:
                callback(link.peer)


def private_folder(path: Path) -> Path:
    """A folder only this user can enter. Raises `FabricError` where it belongs to somebody else."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise FabricError(f"{path} belongs to another user: remove it or set TMPDIR to a folder of your own")
    path.chmod(0o700)
    return path
