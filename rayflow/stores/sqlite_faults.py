"""What went wrong with a database file, said so that somebody can do something about it: what, where, and what now."""

from __future__ import annotations

import sqlite3
from errno import EACCES, ENOSPC, EPERM, EROFS
from pathlib import Path

from rayflow.errors import StorageError, StorageFull, WorkflowError

_BARRED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)


def fault(error: Exception, what: str, path: Path) -> WorkflowError:
    """The error to answer with. `what` is in the file, for the message."""
    if isinstance(error, WorkflowError):
        return error
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says which call it was
    number = error.errno if isinstance(error, OSError) else None
    if code == sqlite3.SQLITE_FULL or number == ENOSPC:
        text = f"no space left for {what} at {path}: free some space; nothing was lost"
        return StorageFull(text, path=str(path))
    return StorageError(_said(error, code, number, what, path), path=str(path))


def _said(error: Exception, code: int, number: int | None, what: str, path: Path) -> str:
    if code in _BARRED or number in (EACCES, EPERM, EROFS):
        return (
            f"{what} {path} cannot be written ({error}): let this user write to the file and its folder, or set"
            " storage.state to another folder; nothing was lost"
        )
    if code == sqlite3.SQLITE_NOTADB:
        return (
            f"{what} {path} cannot be read ({error}): something else lies there, or its beginning was overwritten;"
            " move it away or restore it from a backup; it was not touched"
        )
    if code == sqlite3.SQLITE_CORRUPT:
        return (
            f"{what} {path} is damaged ({error}): what lies on other pages goes on; restore the file from a backup, or"
            f" save what can be read with `sqlite3 {path} .recover`"
        )
    if code == sqlite3.SQLITE_IOERR:
        return (
            f"{what} {path} could not be read or written ({error}): look into the system's log for the disk, and at"
            " quotas and limits of file sizes; nothing that was acknowledged is lost"
        )
    if code == sqlite3.SQLITE_BUSY:
        return f"{what} {path} is held by another program ({error}): stop it, and ask again; nothing was lost"
    return f"{what} {path}: {error}"


def foreign(what: str, path: Path) -> StorageError:
    return StorageError(
        f"{path} is the database of something else, not a {what}: move it away, or set storage.state to another folder;"
        " it was not touched",
        path=str(path),
    )
