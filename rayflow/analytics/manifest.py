"""The manifest: what makes up the event log, as one small file that is replaced as a whole.

A file counts when it is listed here, and for no other reason. So a roll, a merge or a removal becomes true in one
moment, the rename of a new manifest, and there is no moment in which a row is in the log twice or not at all. Every
segment is listed with its size and the SHA-256 of its bytes: what was cut off or altered later is found.

A line is a JSON object and its CRC-32; the first one says how many there are. So damage of the manifest itself is
found, too, and as it is written twice (`manifest`, `manifest.copy`) it costs nothing until both are damaged.

Nothing here needs Arrow: the event log actor has no other use for it.
"""

from __future__ import annotations

import fcntl
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from rayflow.analytics.files import (
    OPEN,
    QUARANTINE,
    SEGMENTS_GLOB,
    STAGING,
    replace_file,
    staging_folder,
    storage_error,
)

MANIFEST = "manifest"
COPY = "manifest.copy"
VERSION = 2

ORIGIN_KEPT_S = 86_400.0
"""Where a sender that was not heard of for so long goes on, is forgotten."""


class _Head(msgspec.Struct, frozen=True, omit_defaults=True, tag="head"):
    version: int
    generation: int
    lines: int
    lost: bool = False


class Opened(msgspec.Struct, frozen=True, tag="open"):
    """An open segment, `open/<name>` (rayflow.analytics.opened)."""

    name: str


class Stored(msgspec.Struct, frozen=True, omit_defaults=True, tag="segment"):
    """A Parquet segment, `date=<day>/<name>`. `cold`: URI of the file system that has it instead of the log's
    folder."""

    name: str
    day: str
    rows: int
    size: int
    digest: str
    """SHA-256 of the file, hexadecimal."""
    last_us: int = 0
    """`ts` of its last row, microseconds since the epoch."""
    cold: str = ""
    version: int = 2
    """Of the schema."""

    def path(self, root: Path) -> Path:
        return root / f"date={self.day}/{self.name}"

    def staged(self, root: Path) -> Path:
        """Where it is until it counts, and for a while longer."""
        return self.path(root / STAGING)


class Gone(msgspec.Struct, frozen=True, omit_defaults=True, tag="gone"):
    """A segment that counts no more. Its file stays for a while, for readers that had listed it."""

    name: str
    day: str
    since_s: float
    cold: str = ""


class Origin(msgspec.Struct, frozen=True, tag="origin"):
    """`next`: number of the first event of this sender that is in no segment."""

    name: str
    next: int
    seen_s: float


class Damaged(msgspec.Struct, frozen=True, tag="damaged"):
    """A file that was found damaged and set aside, `damaged/<name>`; what of it was whole is in the log."""

    name: str
    reason: str
    since_s: float


Line = Opened | Stored | Gone | Origin | Damaged
_decode = msgspec.json.Decoder(_Head | Line).decode


class Manifest(msgspec.Struct):
    """All by name. `lost`: there are files of a time of which no manifest tells, and nobody has looked into them
    yet."""

    generation: int = 0
    lost: bool = False
    opened: dict[str, Opened] = {}
    segments: dict[str, Stored] = {}
    gone: dict[str, Gone] = {}
    origins: dict[str, Origin] = {}
    damaged: dict[str, Damaged] = {}

    def add(self, line: Line) -> None:
        match line:
            case Opened():
                self.opened[line.name] = line
            case Stored():
                self.segments[line.name] = line
            case Gone():
                self.gone[line.name] = line
            case Origin():
                self.origins[line.name] = line
            case Damaged():
                self.damaged[line.name] = line

    def remove(self, name: str, now_s: float) -> None:
        """The segment `name` counts no more."""
        segment = self.segments.pop(name)
        self.gone[name] = Gone(name, segment.day, now_s, segment.cold)

    def went_on(self, origin: str, next_number: int, now_s: float) -> None:
        """Events of `origin` up to `next_number` are in segments."""
        known = self.origins.get(origin)
        self.origins[origin] = Origin(origin, max(next_number, known.next if known else 0), now_s)

    def lines(self) -> list[Line]:
        return [
            *self.opened.values(),
            *self.segments.values(),
            *self.gone.values(),
            *self.origins.values(),
            *self.damaged.values(),
        ]

    def encode(self) -> bytes:
        lines = self.lines()
        return b"".join(map(_sealed, [_Head(VERSION, self.generation, len(lines), self.lost), *lines]))


def _sealed(line: _Head | Line) -> bytes:
    text = msgspec.json.encode(line)
    return b"%s %08x\n" % (text, zlib.crc32(text))


def decode(data: bytes) -> tuple[Manifest, str]:
    """What can be read of a manifest, and what is wrong with it ("" for nothing)."""
    found = Manifest()
    head: _Head | None = None
    lines, bad = data.splitlines(keepends=True), []
    for number, line in enumerate(lines, 1):
        text, _, crc = line.rstrip(b"\n").rpartition(b" ")
        try:
            if b"%08x" % zlib.crc32(text) != crc or not line.endswith(b"\n"):
                raise ValueError("checksum")
            entry = _decode(text)
        except ValueError:
            bad.append(number)
            continue
        if isinstance(entry, _Head):
            head = entry
            found.generation, found.lost = entry.generation, entry.lost
        else:
            found.add(entry)
    if head is not None and head.version != VERSION:
        return Manifest(), f"written with version {head.version} of the log; this rayflow reads version {VERSION}"
    if bad:
        return found, f"damaged in line {', '.join(map(str, bad[:5]))} of {len(lines)}"
    if head is None:
        return found, "damaged: it has no first line"
    if head.lines != len(lines) - 1:
        return found, f"cut off: {len(lines) - 1} of {head.lines} lines are there"
    return found, ""


def read_manifest(root: Path) -> tuple[Manifest, dict[Path, str]]:
    """The manifest of the log in `root`, and the files of it that are damaged. Without any, nothing is listed.

    Where the manifest is damaged its copy is taken, and where that is damaged, too, what can be read of either.
    """
    path, copy = root / MANIFEST, root / COPY
    try:
        found, problem = decode(path.read_bytes())
    except FileNotFoundError:
        if not copy.exists():
            return Manifest(), {}
        found, problem = Manifest(), "missing"
    if not problem:
        return found, {}
    try:
        other, worse = decode(copy.read_bytes())
    except OSError as error:
        other, worse = Manifest(), error.strerror or str(error)
    if not worse:
        return other, {path: f"{problem}; its copy was used"}
    for line in other.lines():
        found.add(line)
    return found, {path: f"{problem}; files may be left out", copy: worse}


@contextmanager
def changing(root: Path) -> Iterator[Manifest]:
    """The manifest, to be changed; it is durable and true when the block ends, and unchanged where the block raises.

    One process changes it at a time, others wait. A damaged one is set aside in `damaged/`, and readers go on naming
    it. Raises `StorageFull` and `StorageError`.
    """
    try:
        with (staging_folder(root) / "manifest.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            manifest, problems = read_manifest(root)
            before = manifest.encode()
            if not manifest.generation:
                manifest.lost = any(root.glob(SEGMENTS_GLOB)) or any((root / OPEN).glob("*.events"))
            if len(problems) > 1:  # else its copy was whole, and nothing is lost
                _set_aside(root, manifest, problems)
            yield manifest
            long_ago = time.time() - ORIGIN_KEPT_S
            manifest.origins = {name: origin for name, origin in manifest.origins.items() if origin.seen_s > long_ago}
            if problems or manifest.encode() != before:
                manifest.generation += 1
                data = manifest.encode()
                # The copy is never older, so that it can stand in; but the first manifest comes before its copy.
                for name in (COPY, MANIFEST) if (root / MANIFEST).exists() else (MANIFEST, COPY):
                    replace_file(root / name, data)
    except OSError as problem:
        raise storage_error(problem, root) from problem


def _set_aside(root: Path, manifest: Manifest, problems: dict[Path, str]) -> None:
    folder = root / QUARANTINE
    folder.mkdir(exist_ok=True)
    for path, reason in problems.items():
        if path.exists():
            name = f"{time.time_ns()}-{path.name}"
            (folder / name).write_bytes(path.read_bytes())
            manifest.add(Damaged(name, reason, time.time()))


def open_path(root: Path, name: str) -> Path:
    return root / OPEN / name
