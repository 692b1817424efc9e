"""The fabric inside one process: the same interface, no bytes. All actors share one object.

Messages are frozen structs, so they are passed by reference. Delivery is still asynchronous: a handler never runs
inside the call that told or asked it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Mapping
from typing import Any

from rayflow.cluster.fabric.directory import DirectoryTable
from rayflow.cluster.fabric.mailroom import Mailroom, gave_up
from rayflow.cluster.fabric.pipe import Pipe
from rayflow.errors import DeadlineExceeded, PeerLost, UnknownAddress, from_info
from rayflow.messages import Directory, Endpoint, Failure, LinkStats, Payload
from rayflow.runtime.ports import Handler, Outlet, StreamHandler


class LiveDirectory(DirectoryTable):
    """Knows what is bound right now, so it needs no news from the coordinator."""

    def update(self, directory: Directory) -> None:
        """Nothing to learn."""


class InProcessFabric:
    endpoint = "inprocess:"

    def __init__(self) -> None:
        self._directory = LiveDirectory()
        self._mailroom = Mailroom()
        self._serving: dict[str, set[asyncio.Task[Payload]]] = {}
        self._pipes: dict[str, weakref.WeakSet[Pipe]] = {}

    @property
    def directory(self) -> DirectoryTable:
        return self._directory

    def bind(
        self,
        address: str,
        handlers: Mapping[type[Payload], Handler],
        streams: Mapping[type[Payload], StreamHandler] | None = None,
        *,
        epoch: int = 0,
    ) -> None:
        self._mailroom.bind(address, handlers, streams, epoch)
        self._serving[address] = set()
        self._pipes[address] = weakref.WeakSet()
        self._directory.put(Endpoint(address, self.endpoint, epoch))

    def unbind(self, address: str) -> None:
        """The actor is gone: whoever waits for it gets `PeerLost`."""
        self._mailroom.unbind(address)
        self._directory.remove(address)
        for task in self._serving.pop(address, set()):
            task.cancel()
        for pipe in list(self._pipes.pop(address, ())):
            pipe.lose(PeerLost(f"{address} went away", peer=address))

    def links(self) -> list[LinkStats]:
        """There is nobody to connect to."""
        return []

    def tell(self, to: str, message: Payload) -> None:
        entry = self._directory.entry(to)
        if entry is not None:
            asyncio.get_running_loop().call_soon(self._mailroom.tell, to, message, entry.epoch)

    async def ask(self, to: str, message: Payload, timeout_s: float) -> Any:
        serving, entry = self._serving.get(to), self._directory.entry(to)
        if serving is None or entry is None:
            raise UnknownAddress(f"there is no {to} in this process", address=to)
        if timeout_s <= 0:
            raise DeadlineExceeded(f"no time left to ask {to}", address=to)
        await asyncio.sleep(0)
        result = self._mailroom.call(to, message, timeout_s, entry.epoch)
        if isinstance(result, asyncio.Task):
            serving.add(result)
            result.add_done_callback(serving.discard)
            result = await self._wait(to, result, timeout_s)
        if isinstance(result, Failure):
            raise from_info(result.error)
        return result

    def stream(self, to: str, opening: Payload) -> Outlet:
        pipe, entry = Pipe(), self._directory.entry(to)
        if entry is None or to not in self._pipes:
            pipe.lose(UnknownAddress(f"there is no {to} in this process", address=to))
        else:
            self._pipes[to].add(pipe)
            pipe.open(self._mailroom, to, opening, entry.epoch)
        return pipe.outlet

    async def _wait(self, to: str, task: asyncio.Task[Payload], timeout_s: float) -> Payload:
        try:
            done, _ = await asyncio.wait({task}, timeout=timeout_s)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            task.cancel()
            raise DeadlineExceeded(f"{to} did not answer within {timeout_s:.3g} s", address=to)
        if task.cancelled():
            raise PeerLost(f"{to} went away", peer=to) if to not in self._serving else gave_up()
        return task.result()
