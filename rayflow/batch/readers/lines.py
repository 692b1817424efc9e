"""Lines of a plain or gzip file, with their positions, in bounded memory.

A line that is too long is skipped while it is read, not collected first. A gzip stream that breaks off gives all whole
lines before the break; then `BrokenStream` says where it broke.
"""

from __future__ import annotations

import gzip
import zlib
from io import BufferedIOBase
from pathlib import Path
from typing import NamedTuple, Self

from rayflow.errors import ValidationError

MAX_LINE_BYTES = 8 * 2**20
_SKIP_BYTES = 2**16
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """`number` counts from 1, `byte` from 0. `data` keeps its line break; where the line is not `whole`, it is cut."""

    number: int
    byte: int
    data: bytes
    whole: bool


class BrokenStream(Exception):
    """The compressed stream ends or is damaged within line `line`, which begins at `byte` of the uncompressed text."""

    def __init__(self, line: int, byte: int, reason: str) -> None:
        super().__init__(f"the gzip stream breaks off in line {line}, after byte {byte} of its text: {reason}")
        self.line = line
        self.byte = byte

    def or_unreadable(self, path: Path) -> Self:
        """This, where something was read before the break. Raises `ValidationError` where nothing was."""
        if self.byte == 0:
            raise ValidationError(f"{path}: {self}; nothing in it can be read", param=str(path)) from self
        return self


def open_input(path: Path) -> BufferedIOBase:
    """The bytes of a file, uncompressed where its name ends in `.gz`. Raises `OSError`."""
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")


class LineReader:
    """Iterates `Line`s, with the position of the next one."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file
        self._number = 0
        self._byte = 0

    @property
    def position(self) -> tuple[int, int]:
        """Number and byte of the line that comes next."""
        return self._number + 1, self._byte

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Line:
        number, byte = self.position
        try:
            data = self._file.readline(MAX_LINE_BYTES + 1)
            whole = data.endswith(b"\n") or len(data) <= MAX_LINE_BYTES
            skipped = 0 if whole else self._skip_rest()
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BrokenStream(number, byte, str(error)) from error
        if not data:
            raise StopIteration
        self._number = number
        self._byte += len(data) + skipped
        # Windows editors put a byte order mark before UTF-8; it is no part of the first line.
        return Line(number, byte, data.removeprefix(_BYTE_ORDER_MARK) if byte == 0 else data, whole)

    def _skip_rest(self) -> int:
        skipped = 0
        while piece := self._file.readline(_SKIP_BYTES):
            skipped += len(piece)
            if piece.endswith(b"\n"):
                break
        return skipped
