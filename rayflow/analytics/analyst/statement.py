"""What SQL from outside may say: one SELECT over the views, of functions that compute and nothing else.

DuckDB's own parser turns the text into a tree, and every node of the tree must be of a kind that is known here. So what
a later DuckDB may add to the language is refused, not missed. That a statement is a SELECT says little: to DuckDB,
`WITH x AS (INSERT ...) SELECT` is one.

This is the first of several walls, and the one that gives a helpful answer; the sandbox does not rely on it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from importlib.resources import files
from typing import Any, NamedTuple

import duckdb
import msgspec

from rayflow.errors import SqlNotAllowed, SqlTooLarge

MAX_CHARS = 100_000
FUNCTIONS = frozenset(
    " ".join(
        line
        for line in (files("rayflow.analytics.analyst") / "functions.txt").read_text("utf-8").splitlines()
        if not line.startswith("# ")
    )
    .lower()
    .split()
)
"""Names of the functions that may be called, in lower case. Read once, before the files are out of reach."""
TABLE_FUNCTIONS = frozenset(("generate_series", "range", "unnest"))

_KINDS = frozenset(
    (
        *("SELECT_NODE", "SET_OPERATION_NODE", "CTE_NODE", "RECURSIVE_CTE_NODE"),
        *("BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "PIVOT", "SHOW_REF"),
        *("ORDER_MODIFIER", "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "DISTINCT_MODIFIER"),
        *("ORDER_DEFAULT", "ASCENDING", "DESCENDING"),
    )
)
"""Of queries, of what stands after FROM, and of what follows: nodes without a class."""
_CLASSES = frozenset(
    (
        *("BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION"),
        *("LAMBDA", "LAMBDA_REF", "OPERATOR", "PARAMETER", "POSITIONAL_REFERENCE", "STAR", "SUBQUERY", "TYPE"),
        "WINDOW",
    )
)
"""Of expressions."""
_SCHEMAS: tuple[list[str], ...] = ([], ["main"], ["memory", "main"])
"""How the schema of the views may be written before the name."""


class Vocabulary(NamedTuple):
    """Names that our own SQL has defined."""

    views: frozenset[str]
    macros: frozenset[str]


def check(database: duckdb.DuckDBPyConnection, sql: str, known: Vocabulary) -> None:
    """Raises `SqlNotAllowed`, which says what is not, and `SqlTooLarge` for a text that is too long."""
    if len(sql) > MAX_CHARS:
        raise SqlTooLarge(f"the SQL is longer than {MAX_CHARS} characters", limit_chars=MAX_CHARS)
    tree = _parse(database, sql)
    ctes = {name.lower() for node in _nodes(tree) for name in _ctes_of(node)}
    for node in _nodes(tree):
        _check_node(node, ctes, known)


def _parse(database: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    statements = database.extract_statements(sql)  # raises `duckdb.ParserException`, which points at the place
    if len(statements) != 1:
        raise _refusal("write one statement" if statements else "it is empty; try: SELECT * FROM runs LIMIT 10")
    if (kind := _kind(statements[0])) != "SELECT":
        raise _refusal(f"{kind} is not SELECT")
    [(text,)] = database.execute("SELECT json_serialize_sql($sql::VARCHAR)", {"sql": sql}).fetchall()
    try:
        tree: dict[str, Any] = msgspec.json.decode(text)
    except RecursionError:
        raise _refusal("it is nested too deep") from None
    if tree["error"]:
        raise _refusal(str(tree.get("error_message", "DuckDB cannot take it apart")))
    return tree


def _kind(statement: duckdb.Statement) -> str:
    try:
        return statement.type.name
    except ValueError:  # some kinds have no name in Python
        return "this kind of statement"


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    """All objects of the tree."""
    left = [tree]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            yield node
            left.extend(node.values())
        elif isinstance(node, list):
            left.extend(node)


def _ctes_of(node: dict[str, Any]) -> Iterator[str]:
    if isinstance(named := node.get("cte_map"), dict):
        yield from (entry["key"] for entry in named["map"])
    if isinstance(name := node.get("cte_name"), str):
        yield name


def _check_node(node: dict[str, Any], ctes: Collection[str], known: Vocabulary) -> None:
    kind = node.get("type")
    if "class" in node:
        if node["class"] not in _CLASSES:
            raise _refusal(f"{_words(node['class'])} is not allowed")
    elif isinstance(kind, str) and kind not in _KINDS:
        raise _refusal(f"{_words(kind)} is not allowed")
    if kind == "BASE_TABLE":
        _check_table(node, ctes, known.views)
    elif kind == "TABLE_FUNCTION":
        _check_table_function(node["function"])
    elif kind == "SHOW_REF" and (node["show_type"] not in ("DESCRIBE", "SUMMARY") or not node["query"]):
        raise _refusal(f"SHOW is not allowed; DESCRIBE one of: {', '.join(sorted(known.views))}")
    if "function_name" in node:
        _check_function(node, known.macros)


def _check_table(node: dict[str, Any], ctes: Collection[str], views: Collection[str]) -> None:
    *schema, name = (part.lower() for part in node["qualified_name"]["path"])
    if not (name in views and schema in _SCHEMAS) and not (name in ctes and not schema):
        shown = ".".join([*schema, name])[:100]
        raise _refusal(f"there is no view {shown!r}; there are: {', '.join(sorted(views))}")


def _check_table_function(function: dict[str, Any]) -> None:
    name = function.get("function_name", "")
    if name.lower() not in TABLE_FUNCTIONS:
        raise _refusal(f"{name[:100]}() is not allowed after FROM; allowed are: {', '.join(sorted(TABLE_FUNCTIONS))}")


def _check_function(node: dict[str, Any], macros: Collection[str]) -> None:
    name = node["function_name"]
    known = name.lower() in FUNCTIONS or name in macros
    if not known or node.get("schema") or node.get("catalog") or node.get("export_state"):
        raise _refusal(f"the function {name[:100]}() is not allowed")


def _words(name: object) -> str:
    return str(name).lower().replace("_", " ")


def _refusal(why: str) -> SqlNotAllowed:
    return SqlNotAllowed(why, param="sql")
