"""The working state of a session: named, typed fields that runs, clients and people share (docs/state.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema, model_validator

from rayflow.config.sections.base import Mismatch, ReferenceProblems, Section

FIELD_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"
FieldType = Literal["string", "integer", "number", "boolean", "list", "object"]
Reducer = Literal["replace", "append", "merge", "add", "max", "min", "union"]

REDUCES: dict[str, tuple[FieldType, ...]] = {
    "replace": ("string", "integer", "number", "boolean", "list", "object"),
    "append": ("list",),
    "union": ("list",),
    "merge": ("object",),
    "add": ("integer", "number"),
    "max": ("integer", "number"),
    "min": ("integer", "number"),
}
"""Which types a reducer works on."""

_PLAIN = [{"type": kind} for kind in ("string", "integer", "number", "boolean", "null")]
_LISTS = [
    {"type": "array", "items": {"type": "string"}},
    {"type": "object", "additionalProperties": {"type": "string"}},
]
Default = Annotated[Any, WithJsonSchema({"anyOf": [*_PLAIN, *_LISTS]})]
"""Any JSON value: whether it fits is the field's to say."""


class StateField(Section):
    """One field of the state."""

    name: Annotated[str, Field(pattern=FIELD_PATTERN)]
    """Unique name: letters, digits and underscores."""
    type: FieldType = "string"
    """What a value must be. list and object hold any JSON values."""
    enum: list[str] = []
    """string only: the values it may have; empty for any text."""
    default: Default = None
    """What the field is while nobody has set it; null for nothing."""
    required: bool = False
    """The first update must set the field, where it has no default, and nothing removes it."""
    reducer: Reducer = "replace"
    """What an update does to the value that is there: replace it, append to a list, unite with a list (each item once),
    merge an object key by key (null removes a key), add to a number, or keep the larger (max) or smaller (min) one."""
    max_items: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """list, object: most items or keys."""
    max_length: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """string: most characters."""
    description: str = ""
    """What it is for; models read it where the field is in the context."""
    in_context: bool = False
    """Tell models the value with every call."""


class StateConfig(Section):
    """The working state of a session."""

    schema_version: Annotated[int, Field(ge=1)] = 1
    """Count it up when fields change their type; a state remembers under which version it was written."""
    fields: list[StateField] = []
    """What a state consists of; without any, sessions have none."""
    history: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Changes kept of a session: so many versions back a state can be read, compared and restored."""
    checkpoints: Annotated[int, Field(ge=0, le=1000)] = 100
    """Most named checkpoints of a session."""
    max_bytes: Annotated[int, Field(ge=1, le=262_144)] = 65_536
    """Largest state, as JSON."""

    @property
    def shown(self) -> list[StateField]:
        """The fields that models are told."""
        return [field for field in self.fields if field.in_context]

    def field(self, name: str) -> StateField | None:
        return next((field for field in self.fields if field.name == name), None)

    @model_validator(mode="after")
    def _sound(self) -> StateConfig:
        seen: set[str] = set()
        problems: list[Mismatch] = []
        for i, field in enumerate(self.fields):
            if field.name in seen:
                problems.append(Mismatch(f"fields.{i}.name", "a name that is used once", f"{field.name!r} again"))
            seen.add(field.name)
            problems += [Mismatch(f"fields.{i}.{key}", expected, got) for key, expected, got in _faults(field)]
        if problems:
            raise ReferenceProblems(problems)
        return self


def misfit(field: StateField, value: Any, *, limits: bool = True) -> tuple[str, str] | None:
    """What the field expects and what `value` is instead; None where it fits. Without `limits` only its type counts."""
    expected = _expected(field)
    if not _is(field.type, value):
        return expected, _kind(value)
    if not limits:
        return None
    if field.enum and value not in field.enum:
        return expected, repr(value[:60])
    if isinstance(value, list | dict) and field.max_items is not None and len(value) > field.max_items:
        return expected, f"{len(value)} items"
    if isinstance(value, str) and field.max_length is not None and len(value) > field.max_length:
        return expected, f"{len(value)} characters"
    return None


def _faults(field: StateField) -> Iterator[tuple[str, str, str]]:
    suits = [reducer for reducer, types in REDUCES.items() if field.type in types]
    if field.reducer not in suits:
        yield "reducer", f"one of {', '.join(suits)}, for type {field.type}", repr(field.reducer)
    if field.enum and field.type != "string":
        yield "enum", "type string", f"type {field.type}"
    if field.max_items is not None and field.type not in ("list", "object"):
        yield "max_items", "type list or object", f"type {field.type}"
    if field.max_length is not None and field.type != "string":
        yield "max_length", "type string", f"type {field.type}"
    if field.default is not None and (wrong := misfit(field, field.default)):
        yield "default", *wrong


def _is(kind: FieldType, value: Any) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63
        case "number":
            return _is("integer", value) or (isinstance(value, float) and abs(value) <= 1.7976931348623157e308)
        case "boolean":
            return isinstance(value, bool)
        case "list":
            return isinstance(value, list)
        case "object":
            return isinstance(value, dict)


_NAMES: dict[FieldType, str] = {
    "string": "text",
    "integer": "a whole number of 64 bits",
    "number": "a finite number",
    "boolean": "true or false",
    "list": "a list",
    "object": "an object",
}


def _expected(field: StateField) -> str:
    if field.enum:
        return f"one of {', '.join(field.enum)}"
    words = _NAMES[field.type]
    if field.max_items is not None:
        return f"{words} of at most {field.max_items} items"
    return words if field.max_length is None else f"{words} of at most {field.max_length} characters"


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return "text"
        case int() | float():
            return repr(value) if len(repr(value)) < 40 else "a huge number"
        case list():
            return "a list"
        case _:
            return "an object"
