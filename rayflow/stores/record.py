"""Where the coordinator's knowledge outlives the coordinator: a durable map from names to bytes.

It must survive `kill -9` of the process that writes it, and nothing more: after a power loss no actor lives that could
be adopted. So a commit need not wait for the disk (WAL, `synchronous = NORMAL`): what is written is in the kernel's
hands, and costs tens of microseconds. It belongs to one run of one system: a record that another run left is thrown
away.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path

from rayflow.errors import StorageError

RUN = "run"


class MemoryRecord:
    """For actors that share a process with their coordinator: it lives as long as they do."""

    def __init__(self) -> None:
        self._facts: dict[str, bytes] = {}

    def load(self) -> dict[str, bytes]:
        return dict(self._facts)

    def write(self, changed: Mapping[str, bytes], gone: Iterable[str]) -> None:
        self._facts.update(changed)
        for key in gone:
            del self._facts[key]

    def close(self) -> None:
        """Nothing to give back."""


class SqliteRecord:
    """`path`: the file, readable by its owner alone because configurations hold keys. `run`: identity of the system's
    run. Raises `StorageError` where the file cannot be used."""

    def __init__(self, path: Path, run: str) -> None:
        self._path = path
        try:
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.executescript(files("rayflow.stores").joinpath("sql/record_schema.sql").read_text())
            self._own(run)
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error

    def load(self) -> dict[str, bytes]:
        return dict(self._db.execute("select name, fact from facts where name <> ?", (RUN,)))

    def write(self, changed: Mapping[str, bytes], gone: Iterable[str]) -> None:
        try:
            with self._db:
                self._db.execute("begin immediate")
                self._db.executemany("insert or replace into facts (name, fact) values (?, ?)", changed.items())
                self._db.executemany("delete from facts where name = ?", [(key,) for key in gone])
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def close(self) -> None:
        self._db.close()

    def _own(self, run: str) -> None:
        with self._db:
            self._db.execute("begin immediate")
            if self._db.execute("select fact from facts where name = ?", (RUN,)).fetchone() != (run.encode(),):
                self._db.execute("delete from facts")
                self._db.execute("insert into facts (name, fact) values (?, ?)", (RUN, run.encode()))

    def _failed(self, error: Exception) -> StorageError:
        return StorageError(f"the coordinator's record {self._path}: {error}", path=str(self._path))
