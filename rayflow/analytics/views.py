"""The views of the log (`sql/views.sql`), each made when a question names it.

Making all of them takes longer than many a question: DuckDB binds each to the files of the log.
"""

from __future__ import annotations

import re
from importlib.resources import files
from threading import Lock

import duckdb

VIEWS_SQL = (files("rayflow.analytics") / "sql" / "views.sql").read_text("utf-8")
_DEFINITION = re.compile(r"^CREATE (VIEW|MACRO) (\w+).*?;$", re.MULTILINE | re.DOTALL)
_CATALOG = re.compile(r"\b(show|information_schema|duckdb_\w+|pragma\w*|pg_\w+|sqlite_\w+)\b", re.IGNORECASE)
"""What asks which views there are."""


def defined(kind: str) -> dict[str, str]:
    """The statements of `sql/views.sql` that make a VIEW or a MACRO, by its name."""
    return {found[2]: found[0] for found in _DEFINITION.finditer(VIEWS_SQL) if found[1] == kind}


class Views:
    """Those of one database, which has `segments` already. Several cursors of it may ask at once."""

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        self._missing = defined("VIEW")
        self._making = Lock()
        database.execute("".join(defined("MACRO").values()))

    def make(self, cursor: duckdb.DuckDBPyConnection, sql: str) -> None:
        """Those that `sql` names, and all where it asks which there are. Raises `duckdb.Error`."""
        if _CATALOG.search(sql):
            self.make_all(cursor)
        elif self._missing:
            self._make(cursor, set(re.findall(r"\w+", sql.lower())))

    def make_all(self, cursor: duckdb.DuckDBPyConnection) -> bool:
        """Whether any was missing. Raises `duckdb.Error`."""
        return self._make(cursor, set(self._missing))

    def _make(self, cursor: duckdb.DuckDBPyConnection, names: set[str]) -> bool:
        with self._making:
            wanted = names.intersection(self._missing)
            for name in wanted:
                cursor.execute(self._missing[name])
                del self._missing[name]
        return bool(wanted)
