"""The local copy of who is where."""

from __future__ import annotations

from collections.abc import Callable

from rayflow.messages import Directory, Endpoint


class DirectoryTable:
    """A newer `Directory` replaces the whole table; an older one is ignored, so pushes may arrive in any order."""

    def __init__(self) -> None:
        self._version = -1
        self._entries: dict[str, Endpoint] = {}
        self._retired: frozenset[str] = frozenset()
        self._callbacks: list[Callable[[], None]] = []
        self._by_prefix: dict[str, list[str]] = {}

    @property
    def version(self) -> int:
        return self._version

    @property
    def retired(self) -> frozenset[str]:
        """Endpoints that were declared dead. One that the directory names again is not among them."""
        return self._retired

    def addresses(self, prefix: str) -> list[str]:
        found = self._by_prefix.get(prefix)
        if found is None:
            found = self._by_prefix[prefix] = sorted(a for a in self._entries if a.startswith(prefix))
        return found

    def entry(self, address: str) -> Endpoint | None:
        return self._entries.get(address)

    def endpoint(self, address: str) -> str | None:
        entry = self._entries.get(address)
        return entry.endpoint if entry else None

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def update(self, directory: Directory) -> None:
        if directory.version > self._version:
            self._version = directory.version
            named = {entry.endpoint for entry in directory.entries}
            self._retired = frozenset(directory.retired) - named
            self._replace({entry.address: entry for entry in directory.entries})

    def put(self, entry: Endpoint) -> None:
        """Add one entry by hand: the coordinator's own, before any directory has arrived."""
        self._retired -= {entry.endpoint}
        self._replace({**self._entries, entry.address: entry})

    def remove(self, address: str) -> None:
        self._replace({a: e for a, e in self._entries.items() if a != address})

    def _replace(self, entries: dict[str, Endpoint]) -> None:
        self._entries = entries
        self._by_prefix.clear()
        for callback in self._callbacks:
            callback()
