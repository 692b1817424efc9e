"""Reading the log as it is written, from where the last reader was.

The open segments hold every event from the moment it is acknowledged, so nothing else is read: neither Parquet nor
DuckDB. A segment that is rolled is deleted, but whoever has it open reads it to its end. So a reader that is there
misses nothing, and one that was away goes on where it was, in the segments that are still open.

Where it was is a small file: the name of each open segment, and how far it was read. It is written when what was read
has arrived; what is read again after a crash becomes the same spans under the same names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from rayflow.analytics.manifest import open_path, read_manifest
from rayflow.analytics.opened import OpenReader
from rayflow.events import Event

MOST_BYTES = 8 << 20
"""Read at once; one batch may be larger."""
MOST_OPEN = 16
"""Segments that are read at a time. Of those that nobody could read for so long, the oldest are given up."""


class Tail:
    """Of the log in `root`. `book`: the file that says how far it was read."""

    def __init__(self, root: Path, book: Path) -> None:
        self._root = root
        self._book = book
        self._readers: dict[str, OpenReader] = {}
        self._places = self._load()
        self.given_up = 0
        """Bytes of the log that were never read."""

    def read(self) -> Iterator[Event]:
        """Some events that are new, in the order of each sender, with their ids; none where there are none. A line
        that is no event of this version is passed over. Raises `OSError`."""
        self._open_new()
        for reader in self._readers.values():
            batches = reader.read(MOST_BYTES)
            for batch in batches:
                for number, line in enumerate(bytes(batch.lines).splitlines(), batch.first):
                    try:
                        event = _decode(line)
                    except msgspec.MsgspecError:
                        continue
                    yield msgspec.structs.replace(event, event_id=f"{batch.origin}-{number}")
            if batches:
                return

    def arrived(self) -> None:
        """What was read need not be read again. Raises `OSError`."""
        places = {name: reader.at for name, reader in self._readers.items()}
        if places != self._places:
            draft = self._book.with_suffix(".tmp")
            draft.write_bytes(msgspec.json.encode(places))
            draft.replace(self._book)  # not synced: to read again is harmless, to disturb the stores' syncs is not
            self._places = places

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()

    def _open_new(self) -> None:
        listed = read_manifest(self._root)[0].opened
        for name in sorted(listed.keys() - self._readers.keys()):
            try:
                self._readers[name] = OpenReader(open_path(self._root, name), self._places.get(name, 0))
            except FileNotFoundError:
                continue  # rolled in this moment
        for name, reader in list(self._readers.items()):
            left = reader.left
            if name not in listed and (not left or len(self._readers) > MOST_OPEN):
                self.given_up += left
                self._readers.pop(name).close()

    def _load(self) -> dict[str, int]:
        try:
            return msgspec.json.decode(self._book.read_bytes(), type=dict[str, int])
        except (FileNotFoundError, msgspec.MsgspecError):
            return {}


_decode = msgspec.json.Decoder(Event).decode
