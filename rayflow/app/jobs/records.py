"""Records of jobs: what was asked, by whom, and how far it is."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from rayflow.app.durable import replacing, storage_errors
from rayflow.errors import Conflict, NotFound, StorageError

Kind = Literal["openai", "native"]
Status = Literal[
    "validating", "queued", "in_progress", "finalizing", "paused",
    "completed", "failed", "expired", "cancelling", "cancelled",
]  # fmt: skip
"""OpenAI's, and for native jobs `queued` in place of `validating`, and `paused`: a quota or a limit stopped it."""
ENDED: frozenset[Status] = frozenset(("completed", "failed", "expired", "cancelled"))
RESTING: frozenset[Status] = ENDED | {"paused"}
"""Nobody works on it, and nobody will unless asked to."""

_ID = re.compile(r"batch_[0-9a-f]{32}")


class Counts(msgspec.Struct, frozen=True):
    """Rows. `total`: 0 until it is known."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class LineError(msgspec.Struct, frozen=True):
    """Why a batch was refused as a whole. `line` counts from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Callback(msgspec.Struct, frozen=True):
    """A URL that is told of the end. `state`: waiting until it took the message, or was tried often enough."""

    url: str
    state: Literal["waiting", "delivered", "failed"] = "waiting"
    attempts: int = 0
    error: str = ""
    next_s: int = 0
    """Not before this time (Unix)."""


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One job. Times are Unix seconds; `times` holds when a status was reached. `request`: of a native job, as it was
    sent."""

    id: str
    kind: Kind
    tenant: str
    status: Status
    created_s: int
    endpoint: str = ""
    input_file_id: str = ""
    output_file_id: str | None = None
    error_file_id: str | None = None
    expires_s: int | None = None
    metadata: dict[str, str] = {}
    request: dict[str, Any] = {}
    counts: Counts = Counts()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    rows_per_s: float = 0.0
    left_s: float | None = None
    reason: str = ""
    """Why it is paused or failed, in words."""
    errors: list[LineError] = []
    times: dict[str, int] = {}
    callback: Callback | None = None

    def now(self, status: Status, at_s: int, **changed: Any) -> JobRecord:
        """As it is with this status."""
        times = {**self.times, status: at_s} if status != self.status else self.times
        return msgspec.structs.replace(self, status=status, times=times, **changed)

    @property
    def unfinished(self) -> bool:
        """Whether there is something to do about it: run it, try again what was refused, or tell its end."""
        told = self.callback is None or self.callback.state != "waiting"
        return self.status not in RESTING or (self.status == "paused" and self.kind == "openai") or not told


class JobFiles:
    """The folder of one job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._record = folder / "record.json"
        self._cancel = folder / "cancel"
        self._resume = folder / "resume"

    def read(self) -> JobRecord | None:
        """As it is now, marks counted. Raises `StorageError`."""
        try:
            record = msgspec.json.decode(self._record.read_bytes(), type=JobRecord)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except msgspec.DecodeError as error:
            raise StorageError(f"{self._record} is damaged ({error}); delete the folder of the job") from error
        if record.status in RESTING and self._resume.exists():
            return record.now("queued", record.created_s)
        if record.status in ENDED:
            return record
        with suppress(FileNotFoundError):
            return record.now("cancelling", int(self._cancel.stat().st_mtime))
        return record

    @property
    def input(self) -> Path:
        """What was handed in with the job. Raises `NotFound` where nothing was."""
        found = next(self.folder.glob("input*"), None)
        if found is None:
            raise NotFound(f"the job {self.folder.name} has no input of its own", kind="file", id=self.folder.name)
        return found

    def write(self, record: JobRecord) -> None:
        """Raises `StorageFull`, `StorageError`."""
        with replacing(self._record) as path:
            path.write_bytes(msgspec.json.format(msgspec.json.encode(record)))

    def ask_cancel(self) -> None:
        with storage_errors(self._cancel):
            self._resume.unlink(missing_ok=True)
            self._cancel.touch()

    def ask_resume(self) -> None:
        with storage_errors(self._resume):
            self._cancel.unlink(missing_ok=True)
            self._resume.touch()

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for it."""
        return self._cancel.exists()

    @property
    def resumed(self) -> bool:
        """Whether somebody asked for it, of a job that rests."""
        return self._resume.exists()

    @property
    def marked(self) -> bool:
        """Whether something was asked of it."""
        return self._resume.exists() or self._cancel.exists()

    def begin_again(self, record: JobRecord) -> None:
        """It does not rest any more."""
        self.write(record)
        self._resume.unlink(missing_ok=True)


class JobStore:
    """The jobs under a state folder. Calls wait for the disk: on an event loop, make them in a thread."""

    def __init__(self, state: Path) -> None:
        self.root = state / "batches"

    def files(self, job_id: str) -> JobFiles:
        return JobFiles(self.root / job_id)

    def create(self, record: JobRecord, content: Path | bytes | None, suffix: str = "") -> JobRecord:
        """Keep a new job, with what it reads: a file, of which it gets a link, or the bytes themselves; `suffix` tells
        their kind. Raises `StorageFull`, `StorageError`."""
        folder = self.root / record.id
        hidden = self.root / f".{record.id}"
        with storage_errors(folder):
            hidden.mkdir(parents=True)
            files = JobFiles(hidden)
            if isinstance(content, Path):
                link_or_copy(content, hidden / f"input{suffix}")
            elif content is not None:
                (hidden / f"input{suffix}").write_bytes(content)
            files.write(record)
            hidden.rename(folder)
        return record

    def get(self, tenant: str, job_id: str, kind: Kind) -> JobRecord:
        """Raises `NotFound`, also for a job of another tenant."""
        record = self.files(job_id).read() if _ID.fullmatch(job_id) else None
        if record is None or record.tenant != tenant or record.kind != kind:
            raise NotFound(f"there is no batch {job_id[:64]!r}", kind="batch", id=job_id[:64], param="id")
        return record

    def all(self, tenant: str, kind: Kind) -> list[JobRecord]:
        """Those of a tenant, the newest first."""
        mine = [record for record in self.each() if record.tenant == tenant and record.kind == kind]
        return sorted(mine, key=lambda record: (record.created_s, record.id), reverse=True)

    def each(self) -> Iterator[JobRecord]:
        """All there are. One that is damaged is left out: it is told where it is asked for by name."""
        with suppress(FileNotFoundError):
            for folder in self.root.iterdir():
                if _ID.fullmatch(folder.name):
                    with suppress(StorageError):
                        if (record := JobFiles(folder).read()) is not None:
                            yield record

    def waiting(self) -> bool:
        """Whether there is a job that is not finished."""
        return any(record.unfinished for record in self.each())

    def unfinished(self, resting: set[str]) -> list[JobRecord]:
        """Those about which there is something to do, the oldest first. `resting`: ids of the others, as far as they
        are known; these are looked at only where somebody has asked something of them. It is brought up to date."""
        found: list[JobRecord] = []
        with suppress(FileNotFoundError):
            for folder in self.root.iterdir():
                if not _ID.fullmatch(folder.name) or (folder.name in resting and not JobFiles(folder).marked):
                    continue
                with suppress(StorageError):
                    if (record := JobFiles(folder).read()) is not None and record.unfinished:
                        resting.discard(folder.name)
                        found.append(record)
                        continue
                resting.add(folder.name)
        return sorted(found, key=lambda record: (record.created_s, record.id))

    def cancel(self, record: JobRecord) -> JobRecord:
        """Ask for its end. Raises `Conflict` for one that has ended."""
        if record.status in ENDED:
            raise Conflict(f"the batch is {record.status} already", id=record.id)
        files = self.files(record.id)
        files.ask_cancel()
        return files.read() or record

    def resume(self, record: JobRecord) -> JobRecord:
        """Ask for it to go on. Raises `Conflict` for one that does not rest, or has nothing left to do."""
        if record.status not in RESTING or record.status == "completed":
            raise Conflict(f"the batch is {record.status}: there is nothing to resume", id=record.id)
        files = self.files(record.id)
        files.ask_resume()
        return files.read() or record


def sweep(state: Path, older_s: float = 86_400.0) -> None:
    """Remove what uploads, requests and downloads have left that were cut off a day ago."""
    limit = time.time() - older_s
    for pattern in ("files/.file-*", "batches/.batch_*", "batches/*/.results-*"):
        for path in state.glob(pattern):
            with suppress(OSError):
                if path.stat().st_mtime < limit:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def new_job_id() -> str:
    return f"batch_{secrets.token_hex(16)}"


def link_or_copy(source: Path, target: Path) -> None:
    """The same content at a second place, which is there when the first is deleted."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
