"""The views over a snapshot of the log, and nothing else: what SQL from outside runs in.

DuckDB opens no file here, not even those of the log (`enable_external_access = false`): rows come from a pyarrow
dataset that is part of this process, with the columns and filters of the question pushed down into it. So whatever name
SQL finds a way to, it finds rows of its own tenant only, because the dataset itself has no others; and pages are
compared with their checksums as they are read, which DuckDB's own reader does not do.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import LocalFileSystem

from rayflow.analytics.analyst.statement import Vocabulary, check
from rayflow.analytics.schema import SCHEMA
from rayflow.analytics.views import VIEWS_SQL, defined

KNOWN = Vocabulary(*(frozenset(defined(kind)) for kind in ("VIEW", "MACRO")))
"""What `sql/views.sql` defines."""
_COLUMNS = SCHEMA.append(pa.field("date", pa.date32()))
_FORMAT = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,  # one thread may be shut in, and leaves the others of the machine to those who chat
    "async_threads": 0,
    "temp_directory": "",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


def open_database(memory_bytes: int) -> duckdb.DuckDBPyConnection:
    """An empty one. Reads of the machine's memory and processors what a process that is shut in may not."""
    database = duckdb.connect(config={**_SETTINGS, "memory_limit": f"{memory_bytes} B"})
    database.execute("SET GLOBAL TimeZone = 'UTC'; SET GLOBAL python_enable_replacements = false")
    return database


class SealedLog:
    """The log in `root` for one tenant, or with an empty `tenant` for all. `segments` (names relative to `root`) and
    `open_rows` are what it consists of."""

    def __init__(
        self, database: duckdb.DuckDBPyConnection, root: Path, segments: list[str], open_rows: pa.Table, tenant: str
    ) -> None:
        self._database = database
        rows = ds.dataset([_dataset(root, segments), ds.InMemoryDataset(open_rows.cast(_COLUMNS))])
        database.register("segments", rows.filter(ds.field("tenant") == tenant) if tenant else rows)
        database.execute(VIEWS_SQL)
        database.execute("SET GLOBAL enable_external_access = false; SET GLOBAL lock_configuration = true")

    def ask(self, sql: str, params: dict[str, Any]) -> duckdb.DuckDBPyRelation:
        """The answer, not yet computed. Raises `SqlNotAllowed`, `SqlTooLarge` and `duckdb.Error`."""
        check(self._database, sql, KNOWN)
        return self._database.sql(sql, params=params) if params else self._database.sql(sql)


def _dataset(root: Path, segments: list[str]) -> ds.Dataset:
    return ds.FileSystemDataset.from_paths(
        [str(root / name) for name in segments],
        schema=_COLUMNS,
        format=_FORMAT,
        filesystem=LocalFileSystem(),
        partitions=[_day(name) for name in segments],
    )


def _day(segment: str) -> ds.Expression:
    """What the folder of a segment says of its rows."""
    folder = segment.partition("/")[0]
    if not folder.startswith("date="):
        return ds.scalar(True)
    return ds.field("date") == date.fromisoformat(folder.removeprefix("date="))
