"""Processes, and what runs in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from rayflow.messages import Payload
from rayflow.runtime.ports.fabric import Handler


class Backend(Protocol):
    """How the coordinator gets processes. A spawned process joins the fabric by itself and asks the coordinator what
    to be."""

    def on_exit(self, callback: Callable[[str, int, str], None]) -> None:
        """Call back with (address, epoch, reason) when a spawned process has ended, for whatever reason; `ENDED` when
        it was asked to."""
        ...

    async def spawn(self, address: str, role: str, epoch: int) -> None:
        """Start a process. Raises `WorkflowError` where none can be had."""
        ...

    async def adopt(self, address: str, epoch: int, node: str) -> bool:
        """Watch a process that an earlier coordinator spawned. False where there is none."""
        ...

    async def kill(self, address: str, epoch: int) -> None:
        """End the process now, drained or not. `on_exit` follows where there was one."""
        ...


ENDED = "ended"
"""The reason of an exit that was asked for."""


class Record(Protocol):
    """Where the coordinator keeps what it knows, so that the next one can go on: a map from names to bytes. Only the
    coordinator calls it, from its loop, a few times a second at most: its methods may touch a file but must not wait
    for the disk. They raise `StorageError`."""

    def load(self) -> dict[str, bytes]:
        """All of it. Empty for the first coordinator of a run."""
        ...

    def write(self, changed: Mapping[str, bytes], gone: Iterable[str]) -> None:
        """Set and remove names, all or nothing. What it returned from survives the death of this process."""
        ...

    def close(self) -> None: ...


class Actor(Protocol):
    """What runs behind an address: handlers, and a life of start, drain and stop. Plain async classes that know
    nothing of Ray."""

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]: ...

    async def start(self) -> None:
        """Open what it needs. It is bound to its address only afterwards."""
        ...

    async def drain(self, budget_s: float) -> list[str]:
        """Take nothing new, finish what is in flight; ids of what was left when the budget was spent."""
        ...

    async def stop(self) -> None:
        """Give everything back."""
        ...


class Supervising(Actor, Protocol):
    """The coordinator, as the process that hosts it sees it."""

    def peer_lost(self, endpoint: str) -> None:
        """The fabric lost a connection to this endpoint."""
        ...
