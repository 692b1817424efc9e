"""One input file: what it is, how many items it holds, and the items themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from rayflow.batch.items import ID_FIELDS, INPUT_FIELDS, ItemStream
from rayflow.batch.readers import Blank, Entry, read_entries
from rayflow.errors import ValidationError


class InputIdentity(msgspec.Struct, frozen=True):
    """What a result folder remembers of its input. The path is only for people: a file may move, its content may not
    change. `sha256` is of the file as it lies there."""

    path: str
    size_bytes: int
    sha256: str
    field: str | None = None

    def same_items(self, other: InputIdentity) -> bool:
        return (self.sha256, self.field) == (other.sha256, other.field)


class Source:
    """`field` names the field or column that holds the input; None tries the usual names. `limit`: first items only."""

    def __init__(self, path: Path, field: str | None = None, limit: int | None = None) -> None:
        self.path = path
        self.field = field
        self.limit = limit
        self._fields = INPUT_FIELDS if field is None else (field,)

    def identity(self) -> InputIdentity:
        """Reads the whole file once. Raises `ValidationError` where it cannot."""
        try:
            with self.path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                return InputIdentity(str(self.path), file.tell(), digest, self.field)
        except OSError as error:
            raise ValidationError(f"{self.path}: cannot be read: {error.strerror}", param=str(self.path)) from error

    def count(self) -> int:
        """Number of items, good and bad, up to `limit`. Reads the file; raises `ValidationError` where it cannot."""
        found = (1 for entry in self._entries() if not isinstance(entry, Blank))
        return sum(islice(found, self.limit))

    def items(self) -> ItemStream:
        return ItemStream(self._entries(), self._fields, self.limit)

    def _entries(self) -> Iterator[Entry]:
        return read_entries(self.path, self._fields, ID_FIELDS)
