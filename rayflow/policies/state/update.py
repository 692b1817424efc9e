"""From a state and an update to the next values.

An update is all or nothing: whatever is wrong with it, the state stays as it is and the error names the field, what it
expects and what came. Its parts take effect in a fixed order: replace, update, remove, keep_only; so one update may
append to a log and keep its last hundred entries.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from rayflow.config.schema import StateConfig, StateField
from rayflow.config.sections.state import misfit
from rayflow.errors import Conflict, ValidationError
from rayflow.policies.state.changes import identity
from rayflow.policies.state.reducers import COMMUTING, NEUTRAL, reduce


class StateUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to happen to a state. `update`: values for fields, each taken in as its reducer says. `replace`: values
    that take the place of what is there, whatever the reducer. `remove`: names of fields, or for fields the items of a
    list (or keys of an object) to take out. `keep_only`: names of the fields that stay, or for fields how many of the
    last items of a list stay."""

    update: dict[str, Any] = {}
    replace: dict[str, Any] = {}
    remove: list[str] | dict[str, list[Any]] = []
    keep_only: list[str] | dict[str, int] | None = None


def commutes(config: StateConfig, update: StateUpdate) -> bool:
    """Whether the update is right whatever others did meanwhile."""
    if update.replace or update.remove or update.keep_only is not None:
        return False
    fields = map(config.field, update.update)
    return all(field is not None and field.reducer in COMMUTING for field in fields)


def updated(config: StateConfig, values: Mapping[str, Any], update: StateUpdate) -> dict[str, Any]:
    """The next values. Raises `ValidationError`, and `Conflict` where a value that is there does not fit the schema."""
    return _Updating(config, values).done(_plain(update))


class _Updating:
    def __init__(self, config: StateConfig, values: Mapping[str, Any]) -> None:
        self._config = config
        self._values = dict(values)

    def done(self, update: StateUpdate) -> dict[str, Any]:
        for name, value in update.replace.items():
            self._set(self._field(name, "replace"), value, "replace")
        for name, value in update.update.items():
            self._reduce(self._field(name, "update"), value)
        if isinstance(update.remove, list):
            for name in update.remove:
                self._known(name, "remove")
                self._values.pop(name, None)
        else:
            for name, parts in update.remove.items():
                self._remove(self._field(name, "remove"), parts)
        if isinstance(update.keep_only, list):
            for name in update.keep_only:
                self._known(name, "keep_only")
            self._values = {name: value for name, value in self._values.items() if name in update.keep_only}
        else:
            for name, last in (update.keep_only or {}).items():
                self._keep(self._field(name, "keep_only"), last)
        self._complete()
        return self._values

    def _set(self, field: StateField, value: Any, within: str) -> None:
        if wrong := misfit(field, value):
            raise _refused(f"{within}.{field.name}", *wrong)
        self._values[field.name] = value

    def _reduce(self, field: StateField, value: Any) -> None:
        param = f"update.{field.name}"
        if wrong := misfit(field, value, limits=False):
            raise _refused(param, *wrong)
        if field.reducer != "replace":
            old = self._present(field)
            if old is None and field.reducer in NEUTRAL:
                old = NEUTRAL[field.reducer]()
            value = value if old is None else reduce(field.reducer, old, value)
        self._set(field, value, "update")

    def _remove(self, field: StateField, parts: list[Any]) -> None:
        old = self._present(field)
        match old:
            case list():
                out = {identity(part) for part in parts}
                self._values[field.name] = [item for item in old if identity(item) not in out]
            case dict():
                self._values[field.name] = {key: value for key, value in old.items() if key not in parts}
            case _ if field.type not in ("list", "object"):
                raise _refused(
                    f"remove.{field.name}", "a list or object to take parts out of", f"a field of type {field.type}"
                )

    def _keep(self, field: StateField, last: int) -> None:
        param = f"keep_only.{field.name}"
        if field.type != "list":
            raise _refused(param, "a list to keep the last items of", f"a field of type {field.type}")
        if last < 0:
            raise _refused(param, "a number of items", str(last))
        old = self._present(field)
        if old is not None:
            self._values[field.name] = old[len(old) - min(last, len(old)) :]

    def _present(self, field: StateField) -> Any:
        """What the field holds, or its default. Raises `Conflict` where that does not fit the field any more."""
        if field.name not in self._values:
            return field.default
        value = self._values[field.name]
        if wrong := misfit(field, value, limits=False):
            expected, got = wrong
            raise Conflict(
                f"state field {field.name}: what is stored does not fit schema_version {self._config.schema_version}:"
                f" expected {expected}, got {got}; give it a value with `replace`, or take it out with `remove`",
                field=field.name,
                expected=expected,
                got=got,
            )
        return value

    def _complete(self) -> None:
        for field in self._config.fields:
            if field.required and field.default is None and field.name not in self._values:
                raise _refused(field.name, "a value: the field is required", "nothing")
        size, most = len(msgspec.json.encode(self._values)), self._config.max_bytes
        if size > most:
            raise ValidationError(
                f"the state would have {size} bytes as JSON, more than state.max_bytes ({most}): remove what is not"
                " needed, or keep_only the last items of long lists",
                limit_bytes=most,
            )

    def _field(self, name: str, within: str) -> StateField:
        field = self._config.field(name)
        if field is None:
            raise _unknown(name, within, [field.name for field in self._config.fields])
        return field

    def _known(self, name: str, within: str) -> None:
        """What a schema does not have any more may still be taken out, or kept."""
        if name not in self._values:
            self._field(name, within)


def _plain(update: StateUpdate) -> StateUpdate:
    """As it will be stored: programs may hand over what is no JSON."""
    try:
        return msgspec.json.decode(msgspec.json.encode(update), type=StateUpdate)
    except (TypeError, ValueError) as error:
        raise ValidationError(f"the update is no JSON: {error}") from None


def _refused(param: str, expected: str, got: str) -> ValidationError:
    return ValidationError(f"{param}: expected {expected}, got {got}", param=param, expected=expected, got=got)


def _unknown(name: str, within: str, known: Iterable[str]) -> ValidationError:
    names = [*known]
    near = difflib.get_close_matches(name[:64], names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the workflow has {', '.join(names) or 'no fields'}"
    return ValidationError(f"{within}: no state field is called {name[:64]!r}; {hint}", param=f"{within}.{name[:64]}")
