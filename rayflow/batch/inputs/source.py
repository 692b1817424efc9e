"""The input of a job: all its files as one sequence of numbered rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from rayflow.batch.inputs.delimited import read_delimited
from rayflow.batch.inputs.documents import read_document
from rayflow.batch.inputs.ids import IdSet
from rayflow.batch.inputs.jsonl import read_jsonl
from rayflow.batch.inputs.parquet import read_parquet
from rayflow.batch.inputs.places import FORMATS, PACKED, SUFFIXES, Place, is_address, places
from rayflow.batch.inputs.records import Blank, Entry, Fault
from rayflow.batch.inputs.shapes import ID_FIELDS, columns_of, id_of, shaped
from rayflow.batch.rows import BadRow, InputRow
from rayflow.batch.spec import Inputs
from rayflow.errors import BodyTooLarge, Conflict, ValidationError


class InputIdentity(msgspec.Struct, frozen=True):
    """What a job remembers of its input. Paths are only for people: files may move, their content may not change.
    `sha256` is of the file as it lies there; of several, of all their hashes in order."""

    files: int
    size_bytes: int
    sha256: str


class Source:
    """`whole`: every column of a Parquet file, for conditions on them; else only those that may hold the input or the
    id. Raises `ValidationError` where the paths of `inputs` name nothing that can be read."""

    def __init__(self, inputs: Inputs, *, whole: bool = False) -> None:
        self.inputs = inputs
        self.places = places(inputs.paths)
        self.blank_lines = 0
        """Of the last pass over the rows."""
        self._whole = whole
        for place in self.places:
            _kind(place, inputs.format)

    def identity(self) -> InputIdentity:
        """Reads all files once. Raises `ValidationError` where it cannot."""
        size = 0
        digests: list[str] = []
        for place in self.places:
            try:
                with place.raw() as file:
                    digest = hashlib.sha256()
                    while piece := file.read(2**20):
                        digest.update(piece)
                        size += len(piece)
            except OSError as error:
                raise _unreadable(place, error) from error
            digests.append(digest.hexdigest())
        whole = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
        return InputIdentity(len(digests), size, whole)

    def count(self) -> int:
        """Number of rows, good and bad. Reads all files; raises `ValidationError` where it cannot."""
        return sum(1 for place in self.places for entry in self._entries(place) if not isinstance(entry, Blank))

    def rows(self) -> Iterator[InputRow]:
        """Each row, in order, its value as `shapes` has it. Raises `ValidationError` where a file cannot be read at
        all."""
        self.blank_lines = 0
        ids = IdSet()
        ordinal = 0
        for place in self.places:
            source = place.name if len(self.places) > 1 else ""
            for entry in self._entries(place):
                if isinstance(entry, Blank):
                    self.blank_lines += 1
                else:
                    ordinal += 1
                    yield self._row(ordinal, entry, source, ids)

    def _row(self, ordinal: int, entry: Entry, source: str, ids: IdSet) -> InputRow:
        assert not isinstance(entry, Blank)
        row_id: str | None = None
        if isinstance(entry, Fault):
            value: object = BadRow(entry.slug, entry.message)
        else:
            value = entry.value
            try:
                row_id = id_of(value, self.inputs)
                if not ids.add(row_id or str(ordinal)):
                    raise Conflict(f"an earlier row has the id {row_id or str(ordinal)!r}; ids must be unique")
                assert isinstance(value, dict)  # `id_of` has looked at it
                value = shaped(value, self.inputs)
            except (ValidationError, Conflict) as error:
                value = BadRow.of(type(error), error.message)
        return InputRow(ordinal, value, row_id, source, entry.line, entry.byte)

    def _entries(self, place: Place) -> Iterator[Entry]:
        left = self.inputs.bounds.rows
        try:
            for entry in self._reader(place):
                if left == 0:
                    limit = self.inputs.bounds.rows
                    raise BodyTooLarge(f"{place.path}: at most {limit} rows of a file are read", param=place.path)
                left -= not isinstance(entry, Blank)
                yield entry
        except OSError as error:
            raise _unreadable(place, error) from error

    def _reader(self, place: Place) -> Iterator[Entry]:
        bounds, wanted = self.inputs.bounds, columns_of(self.inputs)
        match _kind(place, self.inputs.format):
            case "jsonl" | "openai":
                return read_jsonl(place, bounds)
            case "json":
                return read_document(place, bounds)
            case "csv":
                return read_delimited(place, wanted, bounds, ",")
            case "tsv":
                return read_delimited(place, wanted, bounds, "\t")
            case _:
                columns = [] if self._whole else [*wanted, *(self.inputs.id_fields or ID_FIELDS), "method", "url"]
                return read_parquet(place, wanted, columns, bounds)


def seen(inputs: Inputs) -> str:
    """What there is to read, by name and size: two machines that say the same see the same files. Raises
    `ValidationError`."""
    found = places(inputs.paths)
    try:
        sizes = [None if is_address(place.path) else Path(place.path).stat().st_size for place in found]
    except OSError as error:
        raise ValidationError(f"{error.filename}: cannot be read: {error.strerror}", param=error.filename) from error
    names = [place.name for place in found]
    return hashlib.sha256(msgspec.json.encode([*zip(names, sizes, strict=True)])).hexdigest()


def _kind(place: Place, given: str) -> str:
    """One of `FORMATS`. Raises `ValidationError` for another kind of file."""
    kind = given or place.kind.removeprefix(".").replace("ndjson", "jsonl")
    if kind in FORMATS and not (kind == "parquet" and place.packing):
        return kind
    raise ValidationError(
        f"{place.path}: unknown kind of file; expected {', '.join(SUFFIXES)} (all but .parquet also with"
        f" {' or '.join(PACKED)}), or say what it is with --format",
        param=place.path,
    )


def _unreadable(place: Place, error: OSError) -> ValidationError:
    return ValidationError(f"{place.path}: cannot be read: {error.strerror or error}", param=place.path)
