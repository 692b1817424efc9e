"""All jobs under a state folder, whoever runs them: a command of their own, or the server they were handed in to.

Both kinds lie side by side, each in the folder of its id. What is asked of a job goes to whoever runs it, through its
folder.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from rayflow.app.jobs.records import RESTING, JobFiles, JobRecord, JobStore
from rayflow.batch.directory import JobDirectory
from rayflow.batch.status import JobStatus, State, Totals
from rayflow.errors import Conflict, NotFound, StorageError

_STATES: dict[str, State] = {
    "validating": "created",
    "queued": "created",
    "in_progress": "running",
    "finalizing": "running",
    "cancelling": "running",
    "paused": "paused",
    "completed": "finished",
    "failed": "failed",
    "expired": "failed",
    "cancelled": "cancelled",
}
"""The words of a record in those of the engine."""


class Listed(NamedTuple):
    """One job. `record`: of one that came in over HTTP."""

    folder: Path
    status: JobStatus
    record: JobRecord | None

    @property
    def by_server(self) -> bool:
        return self.record is not None

    @property
    def over(self) -> bool:
        """Whether nobody works on it, and nobody will unless asked to."""
        if self.record is not None:
            return self.record.status in RESTING
        return self.status.state not in ("created", "running")


class Jobs:
    """The jobs under `state`."""

    def __init__(self, state: Path) -> None:
        self.root = state / "batches"
        self._store = JobStore(state)

    def find(self, job: str) -> Listed:
        """By its id, by the beginning of it where that is enough, or by its folder. Raises `NotFound`, `Conflict` for a
        beginning that several share, `StorageError`."""
        if "/" in job or Path(job).is_dir():
            return self._look(Path(job))
        if (self.root / job).is_dir():
            return self._look(self.root / job)
        found = [folder for folder in self._folders() if folder.name.removeprefix("batch_").startswith(job)]
        found = found or [folder for folder in self._folders() if folder.name.startswith(job)]
        if len(found) > 1:
            names = ", ".join(sorted(folder.name for folder in found)[:5])
            raise Conflict(f"several jobs begin with {job!r}: {names}")
        if not found:
            raise NotFound(f"there is no batch job {job!r} in {self.root}", kind="batch", id=job)
        return self._look(found[0])

    def all(self) -> list[Listed]:
        """The newest first. Folders that cannot be understood are left out; `find` says why."""
        jobs: list[Listed] = []
        for folder in self._folders():
            with suppress(NotFound, StorageError, Conflict):
                jobs.append(self._look(folder))
        return sorted(jobs, key=lambda job: (job.status.created_us, job.folder.name), reverse=True)

    def cancel(self, job: Listed) -> None:
        """Ask for its end; a job on which nobody works ends at once. Raises `Conflict` for one that has ended."""
        if job.record is not None:
            self._store.cancel(job.record)
            return
        if job.status.state in ("finished", "cancelled"):
            raise Conflict(f"the job is {job.status.state} already")
        directory = JobDirectory(job.folder)
        if job.status.state == "running":
            directory.ask("cancel")
        else:
            now_us = time.time_ns() // 1000
            cancelled = msgspec.structs.replace(
                job.status, state="cancelled", reason="it was asked to", updated_us=now_us, finished_us=now_us
            )
            directory.write_status(cancelled)

    def resume(self, job: Listed) -> None:
        """Have the server go on with a job that it was handed. Raises `Conflict` where there is nothing to do."""
        assert job.record is not None
        self._store.resume(job.record)

    def _folders(self) -> Iterator[Path]:
        with suppress(FileNotFoundError):
            for folder in self.root.iterdir():
                if folder.is_dir() and not folder.name.startswith("."):
                    yield folder

    def _look(self, folder: Path) -> Listed:
        record = JobFiles(folder).read()
        directory = JobDirectory(folder)
        if record is None:
            return Listed(folder, directory.status(), None)
        try:
            status = directory.status()
        except NotFound:
            status = JobStatus(record.id, "created")
        totals = status.totals if status.totals.rows else _totals(record)
        return Listed(
            folder,
            msgspec.structs.replace(
                status,
                state=_STATES[record.status],
                reason=record.reason or "; ".join(error.message for error in record.errors[:3]),
                total=record.counts.total or status.total,
                totals=totals,
                created_us=record.created_s * 1_000_000,
            ),
            record,
        )


def _totals(record: JobRecord) -> Totals:
    counts = record.counts
    return Totals(counts.completed + counts.failed, counts.completed, counts.failed)
