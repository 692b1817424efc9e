"""SQL by name: a file holds statements, each after a line `-- name: NAME` and one that says what it is for."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from importlib.resources import files
from typing import Any

_NAMED = re.compile(r"^-- name: (\w+)\n(?:--[^\n]*\n)*(.*?);$", re.MULTILINE | re.DOTALL)


def named_statements(file: str) -> dict[str, str]:
    """All statements of a file in `stores/sql`."""
    return dict(_NAMED.findall(files("rayflow.stores").joinpath("sql", file).read_text()))


def columns(rows: Collection[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as the columns that `unnest` takes."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]
