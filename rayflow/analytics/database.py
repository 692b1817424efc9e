"""The log as a database: DuckDB in memory, with the views of `sql/views.sql` over all of the log.

Parquet is the shared store and every reader has a DuckDB of its own, so queries never wait for the writer nor for each
other. A `Log` is a snapshot: it shows what had been written when it was opened, so open one per question.

Three sources are one relation, `segments`: Parquet files, the rows of open segments, which are not yet Parquet, and
segments on cold storage. That each event is in exactly one of them, and once, is the promise of the snapshot: looking
for an `event_id` twice at every question would cost more than most questions.

Answers are Arrow tables, never Python objects: DuckDB would need pytz to make a Python datetime of a timestamp.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from tempfile import gettempdir
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import duckdb
import pyarrow as pa

from rayflow.analytics.schema import SCHEMA_VERSION
from rayflow.analytics.snapshot import UNLISTED_VERSION, Snapshot, take_snapshot
from rayflow.analytics.views import Views
from rayflow.errors import Cancelled, NotFound, StorageError, ValidationError

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset

Params = Mapping[str, Any] | Sequence[Any] | None

MEMORY_BYTES = 1 << 30
"""Beside it stand the answer itself and what Arrow and Python need, so that the process stays below 2 GB."""

_LINE = re.compile(r"\nLINE (\d+):")


def open_log(root: Path, verify: bool = False, memory_bytes: int = MEMORY_BYTES) -> Log:
    """The log in `root` as it is now. `verify`: read all of it first, to leave out files with a flipped bit.
    `memory_bytes`: what DuckDB may hold; beyond it, it spills into a temporary folder.

    Raises `NotFound` where there is no such folder, and `StorageError` where it cannot be listed.
    """
    if not root.is_dir():
        raise NotFound(
            f"no event log in {root}: `rayflow serve` and `rayflow batch run` write one; "
            "name its place with --state or --events",
            kind="event log",
            id=str(root),
        )
    return Log(root, verify, memory_bytes)


class Log:
    """SQL over one snapshot of the log. The SQL is trusted: it may read and write files, as DuckDB allows."""

    def __init__(self, root: Path, verify: bool, memory_bytes: int) -> None:
        self._root = root
        self.unreadable: dict[Path, str] = {}
        """Files that are left out, with the reason: answers lack their rows."""
        self._spill = Path(gettempdir()) / f"rayflow-query-{os.getpid()}-{token_hex(8)}"  # DuckDB makes it when needed
        self._running: set[duckdb.DuckDBPyConnection] = set()
        self._cold: Dataset | None = None
        self._database = duckdb.connect()
        self._database.execute(
            "SET GLOBAL TimeZone = 'UTC'; SET GLOBAL python_enable_replacements = false;"
            f"SET GLOBAL memory_limit = '{memory_bytes} B'; SET GLOBAL temp_directory = {_quoted(str(self._spill))}"
        )
        self._look(verify)
        self._views = Views(self._database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def query(self, sql: str, params: Params = None) -> pa.Table:
        """The answer to one statement (the last of several). May be called from several threads at once.

        `params`: values for `$name` (a mapping) or `?` (a sequence). Raises `ValidationError` with DuckDB's own
        message, which points at the place, and `Cancelled` after `interrupt`. Where a segment turns out damaged, or was
        merged away since this log was opened, the answer is made again from a new snapshot without damaged files;
        `StorageError` if that fails too.
        """
        try:
            return self._run(sql, params)
        except duckdb.InterruptException as problem:
            raise Cancelled("the query was interrupted") from problem
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

    def refresh(self) -> None:
        """Look at the log anew: queries from now on show what has been written by now."""
        self._look(verify=False)

    def interrupt(self) -> None:
        """Break off the queries that other threads are asking: they raise `Cancelled`."""
        for cursor in tuple(self._running):
            cursor.interrupt()

    def close(self) -> None:
        with suppress(duckdb.ResourceInUseException):
            # A query that was broken off may hold it for a moment; a database in memory goes with its last user.
            self._database.close()
        shutil.rmtree(self._spill, ignore_errors=True)

    def _run(self, sql: str, params: Params) -> pa.Table:
        with self._cursor() as cursor:
            self._views.make(cursor, sql)
            try:
                answer = _relation(cursor, sql, params)
            except duckdb.CatalogException:
                # A name that is put together as it runs; or a wrong one, and then the message tells what is near.
                if len(cursor.extract_statements(sql)) > 1 or not self._views.make_all(cursor):
                    raise
                answer = _relation(cursor, sql, params)
            if answer is None:
                raise ValidationError("the SQL is empty; try: SELECT * FROM runs LIMIT 10", param="sql")
            return answer.to_arrow_table()

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """An open answer owns its connection, so each has one of its own."""
        with self._database.cursor() as cursor:
            if self._cold is not None:
                cursor.register("cold_rows", self._cold)
            self._running.add(cursor)
            try:
                yield cursor
            finally:
                self._running.discard(cursor)

    def _look(self, verify: bool) -> None:
        """Make the view `segments` of what the log consists of now."""
        try:
            snapshot = take_snapshot(self._root, verify)
            # Plans are simpler, and DuckDB finds better ones, without a table that has no rows.
            open_rows = snapshot.open_rows() if snapshot.batches or not _has_all_columns(snapshot) else None
        except OSError as problem:
            raise StorageError(
                f"the event log in {self._root} cannot be read: {problem}", path=str(self._root)
            ) from problem
        self.unreadable = snapshot.unreadable
        sources = []
        if open_rows is not None:
            self._database.register("incoming", open_rows)
            self._database.execute("CREATE OR REPLACE TABLE open_rows AS FROM incoming")
            self._database.unregister("incoming")
            sources.append("FROM open_rows")
        # Files of one version have the same columns, so DuckDB need not open all of them to learn which; the first one
        # grew while it was in use.
        for version in sorted({segment.version for segment in snapshot.segments}):
            paths = ", ".join(_quoted(str(each.path)) for each in snapshot.segments if each.version == version)
            options = "hive_partitioning = true, hive_types = {'date': DATE}"
            if version == UNLISTED_VERSION:
                options += ", union_by_name = true"
            sources.append(f"FROM read_parquet([{paths}], {options})")
        self._cold = snapshot.cold_rows()
        if self._cold is not None:
            self._database.register("cold_rows", self._cold)
            sources.append("FROM cold_rows")
        self._database.execute(f"CREATE OR REPLACE VIEW segments AS {' UNION ALL BY NAME '.join(sources)}")
        if open_rows is None:
            self._database.execute("DROP TABLE IF EXISTS open_rows")

    def _located(self, problem: duckdb.Error, sql: str, params: Params) -> duckdb.Error:
        """`sql()` does not say where an unknown name stands, `execute()` does. Nothing has run, so ask that one too."""
        if isinstance(problem, duckdb.BinderException | duckdb.CatalogException):
            with self._cursor() as cursor:
                try:
                    if len(cursor.extract_statements(sql)) == 1:
                        cursor.execute(sql, params)
                except duckdb.Error as located:
                    return located
        return problem

    def _blames_file(self, problem: duckdb.Error) -> bool:
        """DuckDB names the file, or, deep in a damaged page, raises its most general error."""
        return type(problem) is duckdb.Error or str(self._root) in str(problem)


def _relation(cursor: duckdb.DuckDBPyConnection, sql: str, params: Params) -> duckdb.DuckDBPyRelation | None:
    return cursor.sql(sql, params=params) if params else cursor.sql(sql)


def _has_all_columns(snapshot: Snapshot) -> bool:
    """Whether files alone have every column that there is by now."""
    return bool(snapshot.cold) or any(segment.version == SCHEMA_VERSION for segment in snapshot.segments)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _sql_error(problem: duckdb.Error) -> ValidationError:
    message = str(problem)
    line = _LINE.search(message)
    return ValidationError(message, param="sql", **({"line": int(line[1])} if line else {}))
