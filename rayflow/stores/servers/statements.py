"""SQL by name: a file holds statements, each after a line `-- name: NAME` and one that says what it is for."""

from __future__ import annotations

import re
from importlib.resources import files

_NAMED = re.compile(r"^-- name: (\w+)\n(?:--[^\n]*\n)*(.*?);$", re.MULTILINE | re.DOTALL)


def named_statements(file: str) -> dict[str, str]:
    """All statements of a file in `stores/sql`."""
    return dict(_NAMED.findall(files("rayflow.stores").joinpath("sql", file).read_text()))
