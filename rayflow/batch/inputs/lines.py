"""Lines of a plain or packed file, with their positions, in bounded memory.

A line ends with LF and nowhere else: U+2028 and its like are part of the text. A line that is too long is skipped while
it is read, not collected first. A packed stream that breaks off gives all whole lines before the break; then
`BrokenStream` says where it broke.
"""

from __future__ import annotations

from typing import IO, NamedTuple, Self

from rayflow.batch.inputs.places import DAMAGE
from rayflow.errors import ValidationError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SKIP_BYTES = 2**16


class Line(NamedTuple):
    """`number` counts from 1, `byte` from 0. `data` keeps its line break; where the line is not `whole`, it is cut."""

    number: int
    byte: int
    data: bytes
    whole: bool


class BrokenStream(Exception):
    """The packed stream ends or is damaged within line `line`, which begins at `byte` of the unpacked text."""

    def __init__(self, line: int, byte: int, reason: str) -> None:
        super().__init__(f"the packed stream breaks off in line {line}, after byte {byte} of its text: {reason}")
        self.line = line
        self.byte = byte

    def or_unreadable(self, path: str) -> Self:
        """This, where something was read before the break. Raises `ValidationError` where nothing was."""
        if self.byte == 0:
            raise ValidationError(f"{path}: {self}; nothing in it can be read", param=path) from self
        return self


class LineReader:
    """Iterates `Line`s, with the position of the next one."""

    def __init__(self, file: IO[bytes], row_bytes: int) -> None:
        self._file = file
        self._row_bytes = row_bytes
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
            data = self._file.readline(self._row_bytes + 1)
            whole = data.endswith(b"\n") or len(data) <= self._row_bytes
            skipped = 0 if whole else self._skip_rest()
        except DAMAGE as error:
            raise BrokenStream(number, byte, str(error)) from error
        if not data:
            raise StopIteration
        self._number = number
        self._byte += len(data) + skipped
        # Windows editors put a byte order mark before UTF-8; it is no part of the first line.
        return Line(number, byte, data.removeprefix(BYTE_ORDER_MARK) if byte == 0 else data, whole)

    def _skip_rest(self) -> int:
        skipped = 0
        while piece := self._file.readline(_SKIP_BYTES):
            skipped += len(piece)
            if piece.endswith(b"\n"):
                break
        return skipped
