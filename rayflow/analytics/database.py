"""The log as a database: DuckDB in memory, with the views `events`, `runs` and `turns` over the segments.

Parquet is the shared store and every reader has a DuckDB of its own, so queries never wait for the writer nor for each
other. A `Log` is a snapshot: it shows what had been written when it was opened, so open one per question.

Answers are Arrow tables, never Python objects: DuckDB would need pytz to make a Python datetime of a timestamp.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa

from rayflow.analytics.schema import SCHEMA
from rayflow.analytics.snapshot import take_snapshot
from rayflow.errors import NotFound, StorageError, ValidationError

Params = Mapping[str, Any] | Sequence[Any] | None

_LINE = re.compile(r"\nLINE (\d+):")


def open_log(root: Path, verify: bool = False) -> Log:
    """The log in `root` as it is now. `verify`: read all of it first, to leave out files with a flipped bit.

    Raises `NotFound` where there is no such folder, and `StorageError` where it cannot be listed.
    """
    if not root.is_dir():
        raise NotFound(
            f"no event log in {root}: `rayflow serve` and `rayflow batch run` write one; "
            "name its place with --state or --events",
            kind="event log",
            id=str(root),
        )
    return Log(root, verify)


class Log:
    """SQL over one snapshot of the log. The SQL is trusted: it may read and write files, as DuckDB allows."""

    def __init__(self, root: Path, verify: bool) -> None:
        self._root = root
        self.unreadable: dict[Path, str] = {}
        """Files that are left out, with the reason: answers lack their rows."""
        self._database = duckdb.connect()
        self._database.execute("SET GLOBAL TimeZone = 'UTC'; SET GLOBAL python_enable_replacements = false")
        # By name over an empty table: so a log without segments has all columns, and a segment may lack some.
        self._database.register("schema", SCHEMA.empty_table())
        self._database.execute("CREATE TABLE no_rows AS SELECT *, CAST(NULL AS DATE) AS date FROM schema")
        self._database.unregister("schema")
        self._look(verify)
        self._database.execute((files("rayflow.analytics") / "sql" / "views.sql").read_text("utf-8"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def query(self, sql: str, params: Params = None) -> pa.Table:
        """The answer to one statement (the last of several). May be called from several threads at once.

        `params`: values for `$name` (a mapping) or `?` (a sequence). Raises `ValidationError` with DuckDB's own
        message, which points at the place. Where a segment turns out damaged, or was merged away since this log was
        opened, the answer is made again from a new snapshot without damaged files; `StorageError` if that fails too.
        """
        try:
            return self._run(sql, params)
        except duckdb.Error as problem:
            if not self._blames_file(problem):
                raise _sql_error(self._located(problem, sql, params)) from problem
        self._look(verify=True)
        try:
            return self._run(sql, params)
        except duckdb.Error as problem:
            raise StorageError(
                f"the event log in {self._root} cannot be read: {problem}", path=str(self._root)
            ) from problem

    def close(self) -> None:
        self._database.close()

    def _run(self, sql: str, params: Params) -> pa.Table:
        with self._database.cursor() as cursor:  # an open answer owns its connection, so each has one of its own
            answer = cursor.sql(sql, params=params) if params else cursor.sql(sql)
            if answer is None:
                raise ValidationError("the SQL is empty; try: SELECT * FROM runs LIMIT 10", param="sql")
            return answer.to_arrow_table()

    def _look(self, verify: bool) -> None:
        """Point the view `segments` at the files that make up the log now."""
        try:
            snapshot = take_snapshot(self._root, verify)
        except OSError as problem:
            raise StorageError(
                f"the event log in {self._root} cannot be read: {problem}", path=str(self._root)
            ) from problem
        self.unreadable = snapshot.unreadable
        source = "FROM no_rows"
        if snapshot.segments:
            listed = ", ".join("'" + str(segment.path).replace("'", "''") + "'" for segment in snapshot.segments)
            source += (
                f" UNION ALL BY NAME FROM read_parquet([{listed}],"
                " union_by_name = true, hive_partitioning = true, hive_types = {'date': DATE})"
            )
        self._database.execute(f"CREATE OR REPLACE VIEW segments AS {source}")

    def _located(self, problem: duckdb.Error, sql: str, params: Params) -> duckdb.Error:
        """`sql()` does not say where an unknown name stands, `execute()` does. Nothing has run, so ask that one too."""
        if isinstance(problem, duckdb.BinderException | duckdb.CatalogException):
            with self._database.cursor() as cursor:
                try:
                    if len(cursor.extract_statements(sql)) == 1:
                        cursor.execute(sql, params)
                except duckdb.Error as located:
                    return located
        return problem

    def _blames_file(self, problem: duckdb.Error) -> bool:
        """DuckDB names the file, or, deep in a damaged page, raises its most general error."""
        return type(problem) is duckdb.Error or str(self._root) in str(problem)


def _sql_error(problem: duckdb.Error) -> ValidationError:
    message = str(problem)
    line = _LINE.search(message)
    return ValidationError(message, param="sql", **({"line": int(line[1])} if line else {}))
