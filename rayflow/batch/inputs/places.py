"""Where the files of an input lie, and their bytes: local paths, folders, globs, and addresses of a file system.

An address (`s3://bucket/day`, `gs://...`, `file:///...`) is read by Arrow's file systems, with the credentials of the
environment. All of an input is one job, its files in the order of their names.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from rayflow.errors import ValidationError

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
PACKED = (".gz", ".zst")
STDIN = "-"
FORMATS = ("jsonl", "json", "csv", "tsv", "parquet", "openai")

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://")
_MAGIC = {b"\x1f\x8b": ".jsonl.gz", b"\x28\xb5\x2f\xfd": ".jsonl.zst", b"PAR1": ".parquet"}


class ZstdDamage(Exception):
    """The packed stream ends early or holds garbage."""


DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, ZstdDamage)
"""What reading a packed stream raises where that is damaged."""


class Place(NamedTuple):
    """One file. `path`: a local path or an address; `name`: how its rows name it where there are several files."""

    path: str
    name: str

    @property
    def packing(self) -> str:
        return next((suffix for suffix in PACKED if self.path.lower().endswith(suffix)), "")

    @property
    def kind(self) -> str:
        """Its suffix without that of the packing: `.jsonl` of `rows.jsonl.gz`."""
        return Path(self.path.lower().removesuffix(self.packing)).suffix

    def raw(self) -> IO[bytes]:
        """The bytes as they lie there. Raises `OSError`."""
        if not is_address(self.path):
            return Path(self.path).open("rb")
        import pyarrow.fs

        filesystem, path = pyarrow.fs.FileSystem.from_uri(self.path)
        return io.BufferedReader(filesystem.open_input_file(path))

    @contextmanager
    def text(self) -> Iterator[IO[bytes]]:
        """The bytes, unpacked. Raises `OSError`; reading raises one of `DAMAGE`."""
        with self.raw() as raw:
            if self.packing == ".gz":
                with gzip.open(raw, "rb") as unpacked:
                    yield cast(IO[bytes], unpacked)
            elif self.packing == ".zst":
                yield io.BufferedReader(_Zstd(raw), 2**16)
            else:
                yield raw


def is_address(path: str) -> bool:
    return _ADDRESS.match(path) is not None


def places(paths: Iterable[str]) -> list[Place]:
    """The files that `paths` name: each path in turn, the files of a folder or glob sorted, none twice.

    Raises `ValidationError` where a path names no file, or one of no known kind.
    """
    found: dict[str, Place] = {}
    for path in paths:
        if path == STDIN:
            raise ValidationError("standard input must be kept in a file first", param=path)
        several = _remote(path) if is_address(path) else _local(path)
        if not several:
            raise ValidationError(f"{path}: no such file, and no dataset in such a folder or glob", param=path)
        found.update((place.path, place) for place in several)
    return list(found.values())


def spool(stream: IO[bytes], folder: Path, kind: str = "") -> Path:
    """Keep standard input as a file of `folder`, so that the job can be resumed. `kind`: one of `FORMATS`; "" tells it
    by the first bytes, and takes JSON Lines for all that is not packed and not Parquet."""
    first = stream.read(4)
    suffix = (
        f".{kind}"
        if kind and kind != "openai"
        else next((suffix for magic, suffix in _MAGIC.items() if first.startswith(magic)), ".jsonl")
    )
    path = folder / f"stdin{suffix}"
    temporary = folder / f".stdin{suffix}.tmp"
    try:
        with temporary.open("wb") as file:
            while first:
                file.write(first)
                first = stream.read(2**20)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _local(path: str) -> list[Place]:
    if Path(path).is_dir():
        return [_named(str(file), path) for file in sorted(Path(path).rglob("*")) if file.is_file() and _wanted(file)]
    if has_magic(path) and not Path(path).exists():
        stem = _stem(path)
        files = sorted(Path(stem or ".").glob(path.removeprefix(stem).lstrip("/")))
        return [_named(str(file), stem) for file in files if file.is_file() and _wanted(file)]
    return [Place(path, Path(path).name)]


def _remote(path: str) -> list[Place]:
    from pyarrow import fs

    scheme = _ADDRESS.match(path)
    assert scheme is not None
    base = _stem(path) if has_magic(path) else path
    try:
        filesystem, inside = fs.FileSystem.from_uri(base)
        info = filesystem.get_file_info(inside)
        if info.type == fs.FileType.File:
            return [Place(path, Path(inside).name)]
        listed = filesystem.get_file_info(fs.FileSelector(inside, recursive=True, allow_not_found=True))
    except (OSError, ValueError) as error:
        raise ValidationError(f"{path}: cannot be listed: {error}", param=path) from error
    head = base.rstrip("/")
    files = sorted(item.path for item in listed if item.type == fs.FileType.File and _wanted(Path(item.path)))
    addresses = [head + file.removeprefix(inside.rstrip("/")) for file in files]
    return [_named(file, head) for file in addresses if base == path or fnmatchcase(file, path)]


def _named(path: str, base: str) -> Place:
    return Place(path, path.removeprefix(base.rstrip("/")).lstrip("/") or Path(path).name)


def _stem(pattern: str) -> str:
    """The folders before the first part of a glob that is no plain name."""
    parts = pattern.split("/")
    plain = next(index for index, part in enumerate(parts) if has_magic(part))
    return "/".join(parts[:plain]) or ("/" if pattern.startswith("/") else "")


def _wanted(path: Path) -> bool:
    """Files of a known kind; what begins with `.` or `_` is left by writers for themselves."""
    return not path.name.startswith((".", "_")) and Place(str(path), "").kind in SUFFIXES


class _Zstd(io.RawIOBase):
    """Arrow's decompression as a file of Python's."""

    def __init__(self, raw: IO[bytes]) -> None:
        import pyarrow as pa

        self._errors: tuple[type[Exception], ...] = (pa.ArrowException, OSError, ValueError)
        try:
            self._stream: pa.NativeFile = pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")
        except self._errors as error:
            raise ZstdDamage(str(error)) from error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        try:
            data = self._stream.read(len(view))
        except self._errors as error:
            raise ZstdDamage(str(error)) from error
        view[: len(data)] = data
        return len(data)
