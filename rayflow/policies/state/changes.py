"""What is different between two states, in a form that applies in both directions.

A long list to which an item is appended changes by that item, and an object by its key, so a delta is as small as the
update that made it. Values are compared as the JSON they are stored as: `1`, `1.0` and `true` are three values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from rayflow.errors import StorageError


class Change(msgspec.Struct, frozen=True):
    """One difference in `field`. `before` and `after` hold the value, or nothing where there is none. `at`: a key of an
    object, or the place in a list where the items `before` gave way to those of `after`; None for the whole field."""

    field: str
    at: int | str | None
    before: list[Any]
    after: list[Any]


def identity(value: Any) -> bytes:
    """Equal for values that are the same JSON, whatever the order of keys."""
    return msgspec.json.encode(value, order="sorted")


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """What leads from one to the other."""
    return [change for name in sorted(before.keys() | after.keys()) for change in _between(name, before, after)]


def changed(values: Mapping[str, Any], changes: Iterable[Change]) -> dict[str, Any]:
    """`values` after these changes. Raises `StorageError` where they belong to other values."""
    result = dict(values)
    for change in changes:
        _make(result, change)
    return result


def undone(values: Mapping[str, Any], changes: Sequence[Change]) -> dict[str, Any]:
    """`values` as they were before these changes. Raises `StorageError` where they are not what these have led to."""
    return changed(values, [Change(c.field, c.at, c.after, c.before) for c in reversed(changes)])


def _between(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    old, new = _held(before, name), _held(after, name)
    match old, new:
        case [[*old_items]], [[*new_items]]:
            yield from _spliced(name, old_items, new_items)
        case [dict(old_keys)], [dict(new_keys)]:
            for key in sorted(old_keys.keys() | new_keys.keys()):
                was, now = _held(old_keys, key), _held(new_keys, key)
                if identity(was) != identity(now):
                    yield Change(name, key, was, now)
        case _:
            if identity(old) != identity(new):
                yield Change(name, None, old, new)


def _spliced(name: str, old: list[Any], new: list[Any]) -> Iterator[Change]:
    """The part between what both begin and what both end with."""
    was, now = [*map(identity, old)], [*map(identity, new)]
    shorter, start, end = min(len(old), len(new)), 0, 0
    while start < shorter and was[start] == now[start]:
        start += 1
    while end < shorter - start and was[-1 - end] == now[-1 - end]:
        end += 1
    if start + end < max(len(old), len(new)):
        yield Change(name, start, old[start : len(old) - end], new[start : len(new) - end])


def _held(values: Mapping[str, Any], key: str) -> list[Any]:
    return [values[key]] if key in values else []


def _make(values: dict[str, Any], change: Change) -> None:
    if change.at is None:
        _put(values, change.field, change)
        return
    match values.get(change.field), change.at:
        case list(items), int(at):
            end = at + len(change.before)
            _expect(change, items[at:end])
            values[change.field] = [*items[:at], *change.after, *items[end:]]
        case dict(keys), str(key):
            values[change.field] = keys = dict(keys)
            _put(keys, key, change)
        case _:
            raise _foreign(change)


def _put(values: dict[str, Any], key: str, change: Change) -> None:
    _expect(change, _held(values, key))
    values.pop(key, None)
    if change.after:
        values[key] = change.after[0]


def _expect(change: Change, there: list[Any]) -> None:
    if identity(there) != identity(change.before):
        raise _foreign(change)


def _foreign(change: Change) -> StorageError:
    return StorageError(
        f"the history of the state does not fit its field {change.field}: restore a checkpoint, which does not need it",
        field=change.field,
    )
