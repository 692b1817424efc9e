"""The folder of the event log: where things lie in it, and how a file is put there so that it is whole or not at
all."""

from __future__ import annotations

import errno
import os
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path

from rayflow.errors import StorageError, StorageFull

SEGMENTS_GLOB = "date=*/*.parquet"
OPEN = "open"
STAGING = ".staging"
QUARANTINE = "damaged"

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


def new_name(source: str, suffix: str) -> str:
    """A name that no other file has. Names sort by age."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{_slug(source)}-{secrets.token_hex(8)}{suffix}"


def _slug(source: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", source).strip("-") or "log"


def staging_folder(root: Path) -> Path:
    """Where is written what is not yet to be seen; made where it is missing."""
    folder = root / STAGING
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def staged_file(root: Path, data: bytes) -> Path:
    """A new durable file out of sight, in the staging folder. It is removed again where it cannot be written whole."""
    path = staging_folder(root) / f"{os.getpid()}-{secrets.token_hex(8)}.tmp"
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return path


def replace_file(path: Path, data: bytes) -> None:
    """Readers see the old file or all of the new one, also after a power cut."""
    move_file(staged_file(path.parent, data), path)


def move_file(staged: Path, final: Path) -> None:
    """Durably. Removes `staged` where it fails."""
    try:
        if not final.parent.exists():
            final.parent.mkdir(exist_ok=True)
            sync_folder(final.parent.parent)
        staged.replace(final)
    except OSError:
        staged.unlink(missing_ok=True)
        raise
    sync_folder(final.parent)


def link_file(staged: Path, final: Path) -> None:
    """Give a staged file its final name. It keeps the old one, too, for who has just found it there: both are one
    file."""
    if not final.parent.exists():
        final.parent.mkdir(exist_ok=True)
        sync_folder(final.parent.parent)
    try:
        os.link(staged, final)
    except FileExistsError:
        return
    except PermissionError:  # no links on this file system
        staged.replace(final)
    sync_folder(final.parent)


def sync_folder(folder: Path) -> None:
    """Make new names in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def storage_error(problem: OSError, root: Path) -> StorageError:
    if problem.errno in _FULL:
        return StorageFull(
            f"no space left for the event log in {root}; free some or set storage.events", path=str(root)
        )
    reason = problem.strerror or str(problem)
    return StorageError(f"the event log in {root} cannot be written: {reason}", path=str(root), reason=reason)
