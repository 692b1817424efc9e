"""A file with one owner: its schema, and who may write it.

A store that was given up for dead may only have been frozen, and wake up while its successor works. No time-out can
rule that out, so the file itself knows its owner: to open it is to take it over under the next epoch, and an owner
looks at the epoch at the start of each transaction, where nobody can change it before the commit. This is the fencing
token of Kleppmann, "How to do distributed locking" (2016), kept where the data is.
"""

from __future__ import annotations

import sqlite3
import stat
import time
from collections.abc import Mapping, Set
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from rayflow.errors import Fenced, StorageError
from rayflow.stores.sqlite_faults import foreign

LOG_PAGES = 4000
"""How far the write-ahead log grows (16 MB) before its pages go where they belong. A page that gets several turns
meanwhile is moved once."""

CACHE_KIB = 16 << 10
"""Pages at hand: with a hundred thousand sessions in a file, those that lead to the right one."""

BUSY_S = 5.0
"""How long to wait for the transaction of somebody else, which can only be a predecessor."""


class Schema(NamedTuple):
    """`what` is in the file, for messages; `sql`: the script in `sql/` that makes what is missing, at any earlier
    version, and `tables` of which every version has one; `upgrades`: by earlier version, the script that then takes
    over its content."""

    what: str
    sql: str
    version: int
    tables: Set[str]
    upgrades: Mapping[int, str] = MappingProxyType({})


class OwnedFile:
    """A connection that owns the file it opened, until somebody else opens it.

    Makes the folder and the tables where they are missing, and brings a file of an older schema up to date. Nobody else
    can read either. Raises `StorageError`, `sqlite3.Error` or `OSError` where the file cannot be used.
    """

    def __init__(self, path: Path, schema: Schema, synchronous: str) -> None:
        self._path = path
        self._schema = schema
        _make_private(path)
        self.db = sqlite3.connect(
            path, timeout=BUSY_S, isolation_level=None, cached_statements=64, check_same_thread=False
        )
        try:
            self._check_kind()
            self.db.execute("pragma journal_mode = wal")
            self.db.execute(f"pragma synchronous = {synchronous}")
            self.db.execute("pragma secure_delete = on")  # what was deleted is overwritten
            self.db.execute(f"pragma wal_autocheckpoint = {LOG_PAGES}")
            self.db.execute(f"pragma cache_size = -{CACHE_KIB}")
            self._upgrade()
            self.epoch = self._take_over()
        except BaseException:
            self.db.close()
            raise

    def check_owner(self) -> None:
        """Raises `Fenced` where the file has a new owner. Inside a transaction that writes, "no" holds until its
        end."""
        (epoch,) = self.db.execute("select epoch from ownership").fetchone()
        if epoch != self.epoch:
            raise Fenced(
                f"{self._schema.what} {self._path} was taken over by its owner number {epoch} while number {self.epoch}"
                " did not answer: this request wrote nothing, ask again",
                path=str(self._path),
                epoch=self.epoch,
                owner=epoch,
                retry_after_s=1,
            )

    def _take_over(self) -> int:
        """The next epoch. A predecessor that still writes leaves the file free for moments only, which SQLite's own way
        of waiting, in steps of up to 100 ms, would miss for seconds."""
        self.db.execute("pragma busy_timeout = 1")
        until = time.monotonic() + BUSY_S
        while True:
            try:
                # All rows are fetched, because only then the statement, and with it its transaction, is over.
                [(epoch,)] = self.db.execute("update ownership set epoch = epoch + 1 returning epoch").fetchall()
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                    raise
        self.db.execute(f"pragma busy_timeout = {round(BUSY_S * 1000)}")
        return int(epoch)

    def _upgrade(self) -> None:
        """All or nothing: what fails half-way, for want of space for instance, leaves the file as it was."""
        if self._version() == self._schema.version:
            return
        self.db.execute("begin immediate")
        try:
            version = self._version()  # somebody else may have done it meanwhile
            if version < self._schema.version:
                self._run(self._schema.sql)
                if upgrade := self._schema.upgrades.get(version):
                    self._run(upgrade)
                self.db.execute(f"pragma user_version = {self._schema.version}")
            self.db.execute("commit")
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("rollback")
            raise

    def _version(self) -> int:
        (version,) = self.db.execute("pragma user_version").fetchone()
        if version > self._schema.version:
            raise StorageError(
                f"{self._path} was written by a newer rayflow (schema {version}, this one knows"
                f" {self._schema.version}): upgrade rayflow",
                path=str(self._path),
                schema_version=version,
            )
        return int(version)

    def _check_kind(self) -> None:
        """A database may well be there and be somebody else's, who wants nothing of ours in it."""
        self._version()
        names = {name for (name,) in self.db.execute("select name from sqlite_schema")}
        if names and names.isdisjoint(self._schema.tables):
            raise foreign(self._schema.what, self._path)

    def _run(self, script: str) -> None:
        """Statement by statement: `executescript` would commit first."""
        statement = ""
        for line in files("rayflow.stores").joinpath("sql", script).read_text().splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                self.db.execute(statement)
                statement = ""


def _make_private(path: Path) -> None:
    """What SQLite makes beside the file gets the file's own mode; what an earlier version has left may have another."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        with suppress(FileNotFoundError, PermissionError):  # it is not there, or somebody else's to change
            if stat.S_IMODE(file.stat().st_mode) & 0o077:
                file.chmod(0o600)
