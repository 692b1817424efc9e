"""YAML 1.2 as strict as a form: plain data, and the place of every key and value.

A workflow file is written by hand and acted on by a machine. What YAML offers beyond data hides mistakes (a second key
that wins over the first, `no` that means false, `012` that means ten) or attacks (aliases that grow to gigabytes, tags
that construct objects). So ruamel.yaml only turns text into events here; this module builds the data from them. Nothing
is expanded or constructed, size and depth are bounded while reading, and scalars follow the core schema of YAML 1.2.

What makes the rest of the file unreadable (syntax, depth) ends the reading; all other faults are collected, each with
its line.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.reader import ReaderError

from rayflow.config.problem import Problem, invalid

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_PATH_CHARS = 512
"""Every value's path is kept, so a long key around many values would cost as much as a bomb of aliases."""

Value: TypeAlias = str | int | float | bool | list["Value"] | dict[str, "Value"] | None

_NULL = re.compile(r"|~|null|Null|NULL")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,64}|0o[0-7]{1,64}|0x[0-9a-fA-F]{1,64}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,64}|[0-9]{1,64}(\.[0-9]{0,64})?)([eE][-+]?[0-9]{1,4})?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_SYNTAX_HINTS = {
    r"'\t'": "indent with spaces, not tabs",
    "'{'": "inside [ ] and { } put ${NAME} in quotes",
    "mapping values": "put text that holds a colon in quotes",
}


class Position(NamedTuple):
    """Line and column, both from 1."""

    line: int
    column: int


START = Position(1, 1)


class Positions:
    """Where keys and values stand. Paths are dotted, list entries counted from 0: `agents.0.name`."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[Position, Position]] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._places

    def put(self, path: str, key: Position, value: Position) -> None:
        """Of a key that is given twice, the first place counts: its value is the one that is kept."""
        self._places.setdefault(path, (key, value))

    def key(self, path: str) -> Position:
        """Where the key begins, or where the nearest section around it does."""
        return self._nearest(path)[0]

    def value(self, path: str) -> Position:
        """Where the value begins (the key, if the value is a block below it), or the nearest section around it."""
        return self._nearest(path)[1]

    def _nearest(self, path: str) -> tuple[Position, Position]:
        while path and path not in self._places:
            path = path.rpartition(".")[0]
        return self._places.get(path, (START, START))


@dataclass
class Document:
    """What a file says, and where. `problems` holds the faults that did not keep it from being read."""

    data: dict[str, Value] = field(default_factory=dict)
    positions: Positions = field(default_factory=Positions)
    problems: list[Problem] = field(default_factory=list)


def parse(source: bytes, file: str) -> Document:
    """Read a file whose root is a mapping. Raises `ConfigurationError`, with the line, where it cannot be read."""
    data, document = _Composer(_decode(source, file), file).compose()
    if not isinstance(data, dict):
        fault = Problem("", "a mapping of keys to values", _kind_of(data), "", file, *START)
        raise invalid([*document.problems, fault])
    document.data = data
    return document


def parse_value(text: str, name: str) -> Value:
    """Read one value given outside a file, such as `0.5` or `[a, b]`. Raises `ConfigurationError`."""
    data, document = _Composer(text, name).compose()
    if document.problems:
        raise invalid(document.problems)
    return data


def scalar(text: str) -> str | int | float | bool | None:
    """The value of a plain scalar by the core schema of YAML 1.2; numbers of absurd length stay text."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text[0] in "tT"
    if _INT.fullmatch(text):
        return int(text, 0) if text.startswith(("0o", "0x")) else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def join(path: str, part: str) -> str:
    """The dotted path of an entry of `path`; the root is the empty path."""
    return f"{path}.{part}" if path else part


def _decode(source: bytes, file: str) -> str:
    if len(source) > MAX_BYTES:
        raise invalid([Problem("", f"at most {MAX_BYTES} bytes", "more", "", file, *START)])
    source = source.removeprefix(codecs.BOM_UTF8)
    try:
        return source.decode()
    except UnicodeDecodeError as error:
        place = _place_in(source[: error.start].decode())
        got = f"the byte 0x{source[error.start]:02x}"
        raise invalid([Problem("", "UTF-8 text", got, "save the file as UTF-8", file, *place)]) from None


class _Unreadable(Exception):
    def __init__(self, place: Position, expected: str, got: str, hint: str = "") -> None:
        super().__init__(expected)
        self.facts = place, expected, got, hint


class _Composer:
    """Builds the data of one text. `path` always names the place that is being read."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._text = text
        self._events: Iterator[Any] = YAML(typ="safe", pure=True).parse(text)
        self._document = Document()
        self._path = ""

    def compose(self) -> tuple[Value, Document]:
        try:
            return self._root(), self._document
        except _Unreadable as error:
            self._fault(self._path, *error.facts)
            raise invalid(self._document.problems) from None

    def _root(self) -> Value:
        self._next()  # start of the stream
        start = self._next()
        if isinstance(start, StreamEndEvent):
            return None
        self._refuse_directives(start)
        first = self._next()
        self._document.positions.put("", START, START)
        data = self._node(first, "", 1)
        self._next()  # end of the document
        after = self._next()
        if not isinstance(after, StreamEndEvent):
            raise _Unreadable(_mark(after.start_mark), "one document", "a second one", "remove the `---` between them")
        return data

    def _refuse_directives(self, start: DocumentStartEvent) -> None:
        if start.version or start.tags:
            raise _Unreadable(_mark(start.start_mark), "YAML 1.2 without directives", "a line that starts with %")

    def _node(self, event: Any, path: str, depth: int) -> Value:
        self._path = path
        place = _mark(event.start_mark)
        if isinstance(event, AliasEvent):
            self._fault(path, place, "a value", "an alias (*)", "aliases are not supported: write the value out")
            return None
        if event.anchor is not None:
            self._fault(path, place, "a value", "an anchor (&)", "anchors are not supported: remove it")
        if event.ctag is not None:
            self._fault(path, place, "a plain value", "a tag (!)", "tags are not supported: remove it")
        if isinstance(event, ScalarEvent):
            return self._scalar(event, place)
        if depth > MAX_DEPTH:
            raise _Unreadable(place, f"at most {MAX_DEPTH} levels of nesting", "more")
        if isinstance(event, SequenceStartEvent):
            return self._sequence(path, depth)
        return self._mapping(path, depth)

    def _scalar(self, event: ScalarEvent, place: Position) -> Value:
        text = str(event.value)
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise _Unreadable(place, "Unicode text", "half of a surrogate pair", "write the character itself")
        return scalar(text) if event.style is None and event.ctag is None else text

    def _sequence(self, path: str, depth: int) -> list[Value]:
        entries: list[Value] = []
        while not isinstance(event := self._next(), SequenceEndEvent):
            entry = join(path, str(len(entries)))
            place = _mark(event.start_mark)
            self._document.positions.put(entry, place, place)
            entries.append(self._node(event, entry, depth + 1))
        return entries

    def _mapping(self, path: str, depth: int) -> dict[str, Value]:
        entries: dict[str, Value] = {}
        while not isinstance(event := self._next(), MappingEndEvent):
            place = _mark(event.start_mark)
            key = self._node(event, path, depth + 1)
            value_event = self._next()
            name = "?" if isinstance(key, list | dict) else str(key)
            entry = join(path, name)
            if len(entry) > MAX_PATH_CHARS:
                raise _Unreadable(place, f"keys of at most {MAX_PATH_CHARS} characters in all", "more")
            if not isinstance(key, str):
                self._fault(entry, place, "a key that is text", _kind_of(key), "put the key in quotes")
            elif name in entries:
                first = self._document.positions.key(entry).line
                self._fault(entry, place, "each key once", f"it again (first on line {first})", "remove one of them")
            value_place = _mark(value_event.start_mark) if _stands_beside(value_event) else place
            self._document.positions.put(entry, place, value_place)
            value = self._node(value_event, entry, depth + 1)
            entries.setdefault(name, value)
        return entries

    def _next(self) -> Any:
        try:
            return next(self._events)
        except ReaderError as error:
            got = f"the character U+{ord(self._text[error.position]):04X}"
            raise _Unreadable(_place_in(self._text[: error.position]), "printable text", got) from None
        except MarkedYAMLError as error:
            got = f"a syntax error ({error.problem})"
            hint = next((hint for sign, hint in _SYNTAX_HINTS.items() if sign in got), "")
            raise _Unreadable(_mark(error.problem_mark or error.context_mark), "valid YAML", got, hint) from None
        except (YAMLError, ValueError, OverflowError, AssertionError):
            # ruamel leaves it to chr(), int() and assert to refuse escapes that are no characters and odd %YAML lines.
            place = self._document.positions.value(self._path)
            raise _Unreadable(place, "valid YAML", "a syntax error (impossible character or number)") from None

    def _fault(self, path: str, place: Position, expected: str, got: str, hint: str = "") -> None:
        self._document.problems.append(Problem(path, expected, got, hint, self._file, *place))


def _stands_beside(event: Any) -> bool:
    """Whether a value begins in the line of its key: not so for a block below it, nor where there is none at all."""
    if isinstance(event, ScalarEvent):
        return bool(event.value) or event.style is not None
    return isinstance(event, AliasEvent) or bool(event.flow_style)


def _mark(mark: Any) -> Position:
    return Position(mark.line + 1, mark.column + 1)


def _place_in(before: str) -> Position:
    return Position(before.count("\n") + 1, len(before) - before.rfind("\n"))


def _kind_of(value: Value) -> str:
    match value:
        case None:
            return "nothing"
        case str():
            return "text"
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return "a number or true/false"
