"""How what an update brings and what is there become one value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rayflow.policies.state.changes import identity

NEUTRAL: dict[str, Callable[[], Any]] = {"append": list, "union": list, "merge": dict, "add": int}
"""What is there where nothing is. replace, max and min need none: they take what comes."""

COMMUTING = frozenset({"append", "union", "add", "max", "min"})
"""What these bring is right whatever is there by now; only the order of a list's items may differ."""


def reduce(reducer: str, old: Any, new: Any) -> Any:
    """The value after `new` came to `old`, both of a type that the reducer works on. Neither is changed."""
    match reducer:
        case "append":
            return [*old, *new]
        case "union":
            seen = {identity(item) for item in old}
            fresh = {key: item for item in new if (key := identity(item)) not in seen}
            return [*old, *fresh.values()]
        case "merge":
            merged = {**old, **new}
            return {key: value for key, value in merged.items() if key not in new or value is not None}
        case "add":
            return old + new
        case "max":
            return max(old, new)
        case "min":
            return min(old, new)
        case _:
            return new
