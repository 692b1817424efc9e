"""Named queries: questions worth keeping, each a file; those of rayflow are under `sql/queries/`.

A file begins with `-- name:`, `-- description:` and, for each parameter, `-- param: NAME = default`, or
`-- param: NAME` for one that must be given; the SQL follows and uses the parameter as `$NAME`. All parameters are text,
cast where they are used: they come from a command line.

Users have folders of their own. A query there stands in for one of rayflow's that has the same name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from rayflow.errors import NotFound, ValidationError

_HEADER = re.compile(r"-- *(\w+): *(.*)")
_KEYS = ("name", "description", "param")
_NAME = re.compile(r"[A-Za-z]\w*")


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """`params`: the parameters with their defaults, None where there is none."""

    name: str
    description: str
    params: dict[str, str | None]
    sql: str

    @property
    def signature(self) -> list[str]:
        """The parameters as they are typed, with their defaults."""
        return [name if default is None else f"{name}={default}" for name, default in self.params.items()]

    def bind(self, given: Mapping[str, str]) -> dict[str, str]:
        """Values for all parameters. Raises `ValidationError` for one that the query does not have, or that lacks."""
        for name in given:
            if name not in self.params:
                known = ", ".join(self.params) or "none"
                raise ValidationError(
                    f"query {self.name!r} has no parameter {name!r}{_nearest(name, self.params)}; it has: {known}",
                    param=name,
                )
        values = {name: given.get(name, default) for name, default in self.params.items()}
        for name, value in values.items():
            if value is None:
                raise ValidationError(f"query {self.name!r} needs the parameter {name!r}: {name}=VALUE", param=name)
        return {name: value for name, value in values.items() if value is not None}


def named_queries(folders: Iterable[Path] = ()) -> dict[str, NamedQuery]:
    """All named queries, by name, in alphabetical order. `folders`: of users, the last one wins.

    Raises `NotFound` for a folder that is not there, and `ValidationError` that names the file and line of a header
    that is wrong.
    """
    queries = dict(_own())
    for folder in folders:
        if not folder.is_dir():
            raise NotFound(f"there is no folder {folder} with queries", kind="folder", id=str(folder))
        queries |= _read(folder)
    return dict(sorted(queries.items()))


def named_query(name: str, queries: Mapping[str, NamedQuery]) -> NamedQuery:
    """Raises `NotFound`, which lists the names there are."""
    if name not in queries:
        raise NotFound(
            f"no query is named {name!r}{_nearest(name, queries)}; there are: {', '.join(queries)}",
            kind="query",
            id=name,
        )
    return queries[name]


@cache
def _own() -> dict[str, NamedQuery]:
    return _read(files("rayflow.analytics") / "sql" / "queries")


def _read(folder: Traversable) -> dict[str, NamedQuery]:
    queries = [_parse(file) for file in folder.iterdir() if file.name.endswith(".sql")]
    return {query.name: query for query in queries}


def _parse(file: Traversable) -> NamedQuery:
    try:
        text = file.read_text("utf-8")
    except UnicodeDecodeError as problem:
        raise ValidationError(f"{file} is not UTF-8: {problem}", param="queries") from None
    facts: dict[str, str] = {}
    params: dict[str, str | None] = {}
    number = 0
    for number, line in enumerate(text.splitlines(), 1):
        found = _HEADER.fullmatch(line.rstrip())
        if found is None:
            break
        key, value = found[1], found[2].strip()
        if key not in _KEYS:
            raise _wrong(file, number, f"expected name, description or param, got {key!r}{_nearest(key, _KEYS)}")
        if key == "param":
            name, default = _param(file, number, value, text)
            if name in params:
                raise _wrong(file, number, f"the parameter {name!r} is there already")
            params[name] = default
        elif key in facts or not value:
            raise _wrong(file, number, f"{key!r} is there already" if key in facts else f"{key!r} is empty")
        else:
            facts[key] = value
    for key in ("name", "description"):
        if key not in facts:
            raise _wrong(file, number, f"the header lacks `-- {key}: ...`")
    if f"{facts['name']}.sql" != file.name:
        raise _wrong(file, 1, f"the query is named {facts['name']!r}: the file must be {facts['name']}.sql")
    return NamedQuery(facts["name"], facts["description"], params, text)


def _param(file: Traversable, number: int, value: str, text: str) -> tuple[str, str | None]:
    name, sign, default = (part.strip() for part in value.partition("="))
    if _NAME.fullmatch(name) is None:
        raise _wrong(file, number, f"expected `-- param: NAME = default`, got {value!r}")
    if re.search(rf"\${name}\b", text) is None:
        raise _wrong(file, number, f"the SQL does not use ${name}")
    return name, default if sign else None


def _wrong(file: Traversable, line: int, why: str) -> ValidationError:
    return ValidationError(f"{file}, line {line}: {why}", param="queries", file=str(file), line=line)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
