"""Named queries: questions worth keeping, each a file under `sql/queries/`.

A file begins with `-- name:`, `-- description:` and, for each parameter, `-- param: NAME = default`; the SQL follows
and uses the parameter as `$NAME`. All parameters are text, cast where they are used: they come from a command line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

from rayflow.errors import NotFound, ValidationError

_HEADER = re.compile(r"^-- (name|description|param): *(.+?) *$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """`params`: the parameters with their defaults."""

    name: str
    description: str
    params: dict[str, str]
    sql: str

    def bind(self, given: Mapping[str, str]) -> dict[str, str]:
        """Values for all parameters. Raises `ValidationError` for one that the query does not have."""
        for name in given:
            if name not in self.params:
                known = ", ".join(self.params) or "none"
                raise ValidationError(
                    f"query {self.name!r} has no parameter {name!r}{_nearest(name, self.params)}; it has: {known}",
                    param=name,
                )
        return {**self.params, **given}


@cache
def named_queries() -> dict[str, NamedQuery]:
    """All named queries, by name, in alphabetical order."""
    folder = files("rayflow.analytics") / "sql" / "queries"
    queries = [_parse(file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".sql")]
    return {query.name: query for query in sorted(queries, key=lambda query: query.name)}


def named_query(name: str) -> NamedQuery:
    """Raises `NotFound`, which lists the names there are."""
    queries = named_queries()
    if name not in queries:
        raise NotFound(
            f"no query is named {name!r}{_nearest(name, queries)}; there are: {', '.join(queries)}",
            kind="query",
            id=name,
        )
    return queries[name]


def _parse(text: str) -> NamedQuery:
    facts: dict[str, str] = {}
    params: dict[str, str] = {}
    for key, value in _HEADER.findall(text):
        if key == "param":
            name, _, default = value.partition("=")
            params[name.strip()] = default.strip()
        else:
            facts[key] = value
    return NamedQuery(facts["name"], facts["description"], params, text)


def _nearest(name: str, known: Mapping[str, object]) -> str:
    near = get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
