"""Where the accounts are kept: balances and open reservations, in SQLite or in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from rayflow.messages import Balance, Booking, Reservation
from rayflow.stores.sqlite_file import Schema
from rayflow.stores.writer import SqliteWriter

SCHEMA = Schema("books of accounts", "accounts_schema.sql", 1, {"balances"})


class MemoryBooks:
    """For limits that need not outlive their process."""

    def __init__(self) -> None:
        self._balances: dict[str, Balance] = {}
        self._reservations: dict[str, Reservation] = {}

    async def open(self) -> None:
        """Nothing to open."""

    async def reservations(self) -> list[Reservation]:
        return list(self._reservations.values())

    async def balances(self, names: Sequence[str]) -> list[Balance]:
        return [self._balances[name] for name in names if name in self._balances]

    async def write(self, booking: Booking) -> None:
        self._balances.update((balance.name, balance) for balance in booking.balances)
        self._reservations.update((made.run_id, made) for made in booking.made)
        for run_id in booking.gone:
            self._reservations.pop(run_id, None)

    async def close(self) -> None:
        """Nothing to give back."""


class SqliteBooks(SqliteWriter):
    """`path`: the database file; its folder is made. Raises `StorageError` where the file cannot be used."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA)

    async def reservations(self) -> list[Reservation]:
        return await self.submit(_reservations, reads=True)

    async def balances(self, names: Sequence[str]) -> list[Balance]:
        return await self.submit(lambda db: _balances(db, names), reads=True)

    async def write(self, booking: Booking) -> None:
        await self.submit(lambda db: _write(db, booking))


def _reservations(db: sqlite3.Connection) -> list[Reservation]:
    rows = db.execute(
        "select run_id, tenant, user_id, tokens, cost, made_us from reservations order by made_us, run_id"
    )
    return [Reservation(*row) for row in rows]


def _balances(db: sqlite3.Connection, names: Sequence[str]) -> list[Balance]:
    marks = ", ".join("?" * len(names))
    rows = db.execute(
        f"select name, start_us, requests, tokens, cost from balances where name in ({marks})", tuple(names)
    )
    return [Balance(*row) for row in rows]


def _write(db: sqlite3.Connection, booking: Booking) -> None:
    db.executemany(
        "insert or replace into balances (name, start_us, requests, tokens, cost) values (?, ?, ?, ?, ?)",
        [(b.name, b.start_us, b.requests, b.tokens, b.cost) for b in booking.balances],
    )
    db.executemany(
        "insert or replace into reservations (run_id, tenant, user_id, tokens, cost, made_us)"
        " values (?, ?, ?, ?, ?, ?)",
        [(r.run_id, r.tenant, r.user_id, r.tokens, r.cost, r.made_us) for r in booking.made],
    )
    db.executemany("delete from reservations where run_id = ?", [(run_id,) for run_id in booking.gone])
