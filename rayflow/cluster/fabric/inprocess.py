"""The fabric inside one process: the same interface, no bytes. All actors share one object.

Messages are frozen structs, so they are passed by reference. Delivery is still asynchronous: a handler never runs
inside the call that told or asked it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from rayflow.cluster.fabric.directory import DirectoryTable
from rayflow.cluster.fabric.link import GAVE_UP
from rayflow.cluster.fabric.mailroom import Mailroom
from rayflow.errors import DeadlineExceeded, PeerLost, UnknownAddress, from_info
from rayflow.messages import Directory, Endpoint, Failure, Payload
from rayflow.runtime.ports import Handler


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

    @property
    def directory(self) -> DirectoryTable:
        return self._directory

    def bind(self, address: str, handlers: Mapping[type[Payload], Handler]) -> None:
        self._mailroom.bind(address, handlers)
        self._serving[address] = set()
        self._directory.put(Endpoint(address, self.endpoint))

    def unbind(self, address: str) -> None:
        """The actor is gone: whoever waits for it gets `PeerLost`."""
        self._mailroom.unbind(address)
        self._directory.remove(address)
        for task in self._serving.pop(address, set()):
            task.cancel()

    def tell(self, to: str, message: Payload) -> None:
        if to in self._mailroom:
            asyncio.get_running_loop().call_soon(self._mailroom.tell, to, message)

    async def ask(self, to: str, message: Payload, timeout_s: float) -> Any:
        serving = self._serving.get(to)
        if serving is None:
            raise UnknownAddress(f"there is no {to} in this process", address=to)
        if timeout_s <= 0:
            raise DeadlineExceeded(f"no time left to ask {to}", address=to)
        await asyncio.sleep(0)
        result = self._mailroom.call(to, message, timeout_s)
        if isinstance(result, asyncio.Task):
            serving.add(result)
            result.add_done_callback(serving.discard)
            result = await self._wait(to, result, timeout_s)
        if isinstance(result, Failure):
            raise from_info(result.error)
        return result

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
            raise PeerLost(f"{to} went away", peer=to) if to not in self._serving else GAVE_UP
        return task.result()
