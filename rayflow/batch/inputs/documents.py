"""JSON that is not one value per line: an array of records, or records one after the other, in any layout.

A scanner finds where each record begins and ends by its brackets and quotes alone, a piece of the file at a time, and
only then a record is decoded. So a file may be larger than memory, and a record that is no JSON spoils no other one,
as long as its brackets match; where they do not, all that follows is one fault.

An object that holds the records under `items` or `conversations` is taken for the array; one whose `conversations` are
messages is a record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

import orjson

from rayflow.batch.inputs.bounds import Bounds
from rayflow.batch.inputs.jsonl import decoded
from rayflow.batch.inputs.lines import BYTE_ORDER_MARK, BrokenStream
from rayflow.batch.inputs.places import DAMAGE, Place
from rayflow.batch.inputs.records import Entry, Fault
from rayflow.errors import InvalidJson, ValidationError

CHUNK_BYTES = 2**17
LIST_KEYS = (b"items", b"conversations")
DEEPEST = 100_000
"""Brackets are counted so deep; deeper ones are garbage."""

_MARK = re.compile(rb'["{}\[\],]')
_IN_STRING = re.compile(rb'["\\]')
_LIST_HEAD = re.compile(rb'"(?:' + b"|".join(LIST_KEYS) + rb')"[ \t\r\n]*:[ \t\r\n]*\[\Z')
_PAIRS = {ord("}"): ord("{"), ord("]"): ord("[")}
_SPACE = b" \t\r\n"
_WHAT = "the record"


def read_document(place: Place, bounds: Bounds) -> Iterator[Entry]:
    """Raises `ValidationError` where the file is no such document, `OSError` where it cannot be opened."""
    with place.text() as file:
        scanner = _Scanner(place.path, bounds)
        try:
            yield from scanner.scan(file)
        except BrokenStream as error:
            broken = error.or_unreadable(place.path)
            yield Fault.of(ValidationError, str(broken), broken.line, broken.byte)


class _Scanner:
    """One document. `_stack`: the brackets that are open; `_within`: how many of them hold all records."""

    def __init__(self, path: str, bounds: Bounds) -> None:
        self._path = path
        self._bounds = bounds
        self._stack = bytearray()
        self._within = 0
        self._text = bytearray()
        """Of the record that is being read; no more than a row may have."""
        self._long = False
        self._line = 1
        self._byte = 0
        self._began: tuple[int, int] | None = None
        """Line and byte of the record's first character."""
        self._leaving = False
        """The records of an object's list are over: what else the object holds is not looked at."""
        self._head: bytes | None = None
        """Where a list was entered of which it is not known yet whether it holds the records: the text before it."""
        self._head_began: tuple[int, int] | None = None

    def scan(self, file: IO[bytes]) -> Iterator[Entry]:
        string = escaped = False
        while chunk := self._read(file):
            at = 0
            while at < len(chunk):
                if escaped:
                    escaped = False
                    self._take(chunk, at, at + 1)
                    at += 1
                    continue
                found = (_IN_STRING if string else _MARK).search(chunk, at)
                if found is None:
                    self._take(chunk, at, len(chunk))
                    break
                mark, end = chunk[found.start()], found.end()
                if string:
                    self._take(chunk, at, end)
                    string, escaped = mark != ord('"'), mark == ord("\\")
                elif mark == ord('"'):
                    self._take(chunk, at, end)
                    string = True
                elif (entries := self._bracket(chunk, at, end, mark)) is not None:
                    yield from entries
                else:
                    yield self._lost(f"a {chr(mark)} without its counterpart")
                    return
                at = end
        if string or self._stack:
            if not string and len(self._stack) == self._within and self._text.rstrip(_SPACE).endswith((b"}", b"]")):
                yield from self._end()  # it is whole, whatever is missing after it
            yield self._lost("the document breaks off")
        else:
            yield from self._end()

    def _read(self, file: IO[bytes]) -> bytes:
        try:
            chunk = file.read(CHUNK_BYTES)
        except DAMAGE as error:
            raise BrokenStream(*(self._began or (self._line, self._byte)), str(error)) from error
        if self._byte == 0 and chunk:
            mark = len(BYTE_ORDER_MARK) if chunk.startswith(BYTE_ORDER_MARK) else 0
            if chunk[mark:].lstrip(_SPACE)[:1] not in (b"", b"[", b"{"):
                raise InvalidJson(
                    f"{self._path}: not a JSON document: it begins with neither [ nor {{; for one value per line name"
                    " it .jsonl",
                    param=self._path,
                )
            self._byte = mark
            chunk = chunk[mark:]
        return chunk

    def _bracket(self, chunk: bytes, at: int, end: int, mark: int) -> list[Entry] | None:
        """What a comma or bracket completes; None where it cannot stand here."""
        depth = len(self._stack)
        if mark == ord(","):
            if depth != self._within or not depth:
                self._take(chunk, at, end)
                return []
            return self._separate(chunk, at, end)
        if mark in b"[{":
            self._stack.append(mark)
            if depth == 0:
                return self._begin(chunk, at, end, mark)
            self._take(chunk, at, end)
            if depth == 1 and mark == ord("[") and not self._within and not self._leaving:
                self._try_list()
            return [] if depth < DEEPEST else None
        if not depth or self._stack.pop() != _PAIRS[mark]:
            return None
        if depth == self._within:
            entries = self._separate(chunk, at, end)
            if self._within:  # it was no conversation after all
                self._leaving, self._within = depth == 2, 0
            return entries
        self._take(chunk, at, end)
        if depth > 1:
            return []
        self._leaving = False
        return self._end()

    def _begin(self, chunk: bytes, at: int, end: int, mark: int) -> list[Entry]:
        """A value begins that is inside no other one. What stood before it is a record of its own."""
        self._take(chunk, at, end - 1)
        entries = self._end()
        if mark == ord("["):
            self._pass(chunk, end - 1, end)
            self._within = 1
        else:
            self._take(chunk, end - 1, end)
        return entries

    def _separate(self, chunk: bytes, at: int, end: int) -> list[Entry]:
        """The comma after a record of the list, or the end of the list."""
        self._take(chunk, at, end - 1)
        if self._head is not None and self._is_conversation():
            self._reopen()
            self._take(chunk, end - 1, end)
            return []
        self._head = None
        entries = self._end()
        self._pass(chunk, end - 1, end)
        return entries

    def _try_list(self) -> None:
        """The `[` just taken may open the list of the records: what its first value is will tell."""
        if _LIST_HEAD.search(self._text):
            self._within = 2
            self._head, self._head_began = bytes(self._text), self._began
            self._text.clear()
            self._began = None

    def _is_conversation(self) -> bool:
        """Whether the first value of a list is a message, so that what holds the list is a record."""
        if self._began is None:
            return True  # empty
        try:
            first = orjson.loads(bytes(self._text))
        except orjson.JSONDecodeError:
            return False
        return not isinstance(first, dict) or not first.keys().isdisjoint(("role", "from"))

    def _reopen(self) -> None:
        assert self._head is not None
        self._text[:0] = self._head
        self._long = self._long or len(self._text) > self._bounds.row_bytes
        self._began, self._head, self._within = self._head_began, None, 0

    def _take(self, chunk: bytes, start: int, end: int) -> None:
        """These bytes belong to the record, or to the space around it."""
        if self._leaving:
            self._pass(chunk, start, end)
            return
        if self._began is None:
            first = start
            while first < end and chunk[first] in _SPACE:
                first += 1
            self._pass(chunk, start, first)
            if first == end:
                return
            start = first
            self._began = self._line, self._byte
        self._pass(chunk, start, end)
        if self._long or len(self._text) + end - start > self._bounds.row_bytes:
            self._long = True
            self._text.clear()
        else:
            self._text += chunk[start:end]

    def _pass(self, chunk: bytes, start: int, end: int) -> None:
        self._line += chunk.count(b"\n", start, end)
        self._byte += end - start

    def _end(self) -> list[Entry]:
        """The record is complete."""
        began, text, long = self._began, bytes(self._text), self._long
        self._text.clear()
        self._began, self._long = None, False
        if began is None:
            return []
        if long:
            return [Fault.too_long(_WHAT, self._bounds.row_bytes, *began)]
        return [decoded(_WHAT, text, *began, self._bounds.depth)]

    def _lost(self, why: str) -> Fault:
        line, byte = self._began or (self._line, self._byte)
        return Fault.of(InvalidJson, f"{why}: nothing from here on can be read", line, byte)
