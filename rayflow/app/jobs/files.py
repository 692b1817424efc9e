"""Files that clients handed in, and those that jobs made for them. Each belongs to one tenant."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal

import msgspec

from rayflow.app.durable import replacing, storage_errors
from rayflow.errors import NotFound, StorageError

Purpose = Literal["batch", "batch_output"]
_ID = re.compile(r"file-[0-9a-f]{16,64}")


class StoredFile(msgspec.Struct, frozen=True):
    """`created_s`: Unix time."""

    id: str
    tenant: str
    filename: str
    purpose: Purpose
    bytes: int
    created_s: int


class Draft:
    """A file that is being written: `keep` makes it one of the store's, and until then nobody sees it."""

    def __init__(self, store: FileStore, file_id: str) -> None:
        self.id = file_id
        self.bytes = 0
        self._store = store
        self._folder = store.root / f".{file_id}"
        with storage_errors(self._folder):
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True)
            self._file: IO[bytes] = (self._folder / "content").open("wb")

    def write(self, data: bytes) -> None:
        """Raises `StorageFull`, `StorageError`."""
        with storage_errors(self._folder):
            self._file.write(data)
        self.bytes += len(data)

    def keep(self, tenant: str, filename: str, purpose: Purpose, created_s: int) -> StoredFile:
        """Raises `StorageFull`, `StorageError`. One that is there under the same id is replaced."""
        stored = StoredFile(self.id, tenant, filename, purpose, self.bytes, created_s)
        target = self._store.root / self.id
        with storage_errors(target):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            with replacing(self._folder / "about.json") as path:
                path.write_bytes(msgspec.json.encode(stored))
            shutil.rmtree(target, ignore_errors=True)
            self._folder.rename(target)
        return stored

    def drop(self) -> None:
        """Forget it, unless it was kept."""
        with suppress(OSError):
            self._file.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class FileStore:
    """The files under a state folder. Calls wait for the disk: on an event loop, make them in a thread."""

    def __init__(self, state: Path) -> None:
        self.root = state / "files"

    def draft(self, file_id: str = "") -> Draft:
        """Begin a file. Raises `StorageFull`, `StorageError`."""
        return Draft(self, file_id or f"file-{secrets.token_hex(16)}")

    def get(self, tenant: str, file_id: str) -> StoredFile:
        """Raises `NotFound`, also for a file of another tenant."""
        stored = self._read(self.root / file_id) if _ID.fullmatch(file_id) else None
        if stored is None or stored.tenant != tenant:
            raise NotFound(f"there is no file {file_id[:64]!r}", kind="file", id=file_id[:64], param="id")
        return stored

    def content(self, tenant: str, file_id: str) -> Path:
        """Where its bytes are. Raises `NotFound`."""
        return self.root / self.get(tenant, file_id).id / "content"

    def all(self, tenant: str) -> list[StoredFile]:
        """Those of a tenant, the newest first."""
        mine = [stored for stored in self._all() if stored.tenant == tenant]
        return sorted(mine, key=lambda stored: (stored.created_s, stored.id), reverse=True)

    def delete(self, tenant: str, file_id: str) -> None:
        """Jobs that read it have a link of their own. Raises `NotFound`, `StorageError`."""
        folder = self.root / self.get(tenant, file_id).id
        gone = folder.with_name(f".{file_id}.gone")
        with storage_errors(folder):
            folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _all(self) -> Iterator[StoredFile]:
        with suppress(FileNotFoundError):
            for folder in self.root.iterdir():
                if _ID.fullmatch(folder.name) and (stored := self._read(folder)) is not None:
                    yield stored

    def _read(self, folder: Path) -> StoredFile | None:
        try:
            return msgspec.json.decode((folder / "about.json").read_bytes(), type=StoredFile)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except msgspec.DecodeError as error:
            raise StorageError(f"{folder / 'about.json'} is damaged ({error}); delete the folder") from error
