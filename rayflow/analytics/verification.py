"""Which files have been found to be what the manifest says.

DuckDB checks neither digests nor page checksums: a flipped bit changes a sum and nobody hears of it. So a segment is
hashed before it is read for the first time. Hashing all of a large log at every question would cost more than most
questions, so what was found whole is noted in `.verified`, together with what the file system says of the file (inode,
size, times of change), and is believed while that stays the same, for a day. A change that leaves no trace in the file
system (a bit that rots on the disk) is found on the day after, or at once with `verify`.

The note is no more than that: where it is damaged, missing, or cannot be written, files are hashed again.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

import msgspec

from rayflow.analytics.files import replace_file
from rayflow.analytics.manifest import Stored

NOTES = ".verified"
BELIEVED_S = 86_400.0


class Note(msgspec.Struct, frozen=True, array_like=True):
    digest: str
    stamp: tuple[int, ...]
    """What the file system said of the file."""
    at_s: float


class Verifier:
    """Checks segments of one log. `always`: believe no note."""

    def __init__(self, root: Path, always: bool = False, believed_s: float = BELIEVED_S) -> None:
        self._path = root / NOTES
        self._believed_s = 0.0 if always else believed_s
        self._notes = _load(self._path)
        self._new: dict[str, Note] = {}

    def damage(self, segment: Stored, path: Path) -> str:
        """What is wrong with the file of a segment, "" where it is whole. Raises `OSError`."""
        with path.open("rb", buffering=0) as file:
            found = os.fstat(file.fileno())
            stamp = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            return self.check(segment, found.st_size, stamp, lambda: hashlib.file_digest(file, "sha256").hexdigest())

    def check(self, segment: Stored, size: int, stamp: tuple[int, ...], digest: Callable[[], str]) -> str:
        """As `damage`, for a file wherever it is. `stamp`: what its file system says of it. `digest` reads all of it,
        and is called where it must be."""
        if size != segment.size:
            return f"{size} bytes long instead of {segment.size}"
        note = self._notes.get(segment.name)
        known = note is not None and note.digest == segment.digest and note.stamp == stamp
        if known and note is not None and 0 <= time.time() - note.at_s < self._believed_s:
            return ""
        if digest() != segment.digest:
            return "altered: its bytes do not match the digest in the manifest"
        self._new[segment.name] = Note(segment.digest, stamp, time.time())
        return ""

    def save(self, names: Collection[str]) -> None:
        """Write down what was found; notes of other segments than these go. Nothing is, where the log is read-only."""
        if not self._new:
            return
        notes = {**_load(self._path), **self._new}
        text = msgspec.json.encode({name: note for name, note in notes.items() if name in names})
        with suppress(OSError):
            replace_file(self._path, b"%s %08x" % (text, zlib.crc32(text)))
        self._notes.update(self._new)
        self._new.clear()


def _load(path: Path) -> dict[str, Note]:
    with suppress(OSError, ValueError):
        text, _, crc = path.read_bytes().rpartition(b" ")
        if b"%08x" % zlib.crc32(text) == crc:
            return msgspec.json.decode(text, type=dict[str, Note])
    return {}
