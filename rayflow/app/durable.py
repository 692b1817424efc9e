"""Files that are there whole or not at all, and disk errors as ours."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rayflow.errors import StorageError, StorageFull


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; when the block ends well it is made durable and takes the place of `path`.

    Raises `StorageFull` or `StorageError`; then nothing is left but the file that was there before.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with storage_errors(path):
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn `OSError` into `StorageFull` or `StorageError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"{path}: no space left on the disk; free some and run the same command again") from error
        raise StorageError(f"{path}: {error.strerror or error}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
