"""The model clients of one replica: its own at once, those of fallback models when they are first needed."""

from __future__ import annotations

from collections.abc import Callable

from rayflow.runtime.ports import ModelClient


class Clients:
    """`make` builds the client of an entry of `models`; it raises `ConfigurationError`. `own`: the entry that is built
    now, so that a replica that cannot work does not start."""

    def __init__(self, make: Callable[[str], ModelClient], own: str) -> None:
        self._make = make
        self._own = own
        self._made = {own: make(own)}

    def get(self, model: str = "") -> ModelClient:
        """The client of this entry, or the replica's own. A first use may take a while: imports."""
        name = model or self._own
        client = self._made.get(name)
        if client is None:
            client = self._made[name] = self._make(name)
        return client

    async def close(self) -> None:
        for client in self._made.values():
            await client.close()
