"""Bodies as typed structs: a wrong one is refused with the path of its field, as clients write it."""

from __future__ import annotations

import difflib
import re
from typing import Any, TypeVar

import msgspec

from rayflow.errors import ValidationError

T = TypeVar("T", bound=msgspec.Struct)

MAX_ECHO = 200
"""Characters of what a client wrote that an answer may repeat."""

_UNKNOWN = re.compile(r"unknown field `(?P<name>.*)`$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(?P<name>.*)`$")


def convert(value: Any, kind: type[T]) -> T:
    """`value` as a `kind`. Raises `ValidationError` with `param`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), kind) from None


def fault(param: str, why: str, **facts: Any) -> ValidationError:
    """The refusal of one field: `param` is its path, for example `messages[0].role`."""
    return ValidationError(f"{param}: {why}", param=param, **facts)


def _refusal(text: str, kind: type[msgspec.Struct]) -> ValidationError:
    why, _, at = text.rpartition(" - at ")  # `$.a.b`, or `key` in `$.a.b`
    path = at.partition("$")[2].removesuffix("`").removeprefix(".")[:MAX_ECHO] if why else ""
    why = why or text
    if unknown := _UNKNOWN.search(why):
        name = unknown["name"][:MAX_ECHO]
        near = difflib.get_close_matches(name, kind.__struct_fields__, n=1) if not path else []
        hint = f"; did you mean {near[0]!r}?" if near else "; remove it"
        return ValidationError(f"unknown parameter {name!r}{hint}", param=_join(path, name))
    if missing := _MISSING.search(why):
        return fault(_join(path, missing["name"]), "is missing")
    return fault(path, why[:MAX_ECHO]) if path else ValidationError(f"the body: {why[:MAX_ECHO]}")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
