"""The files of a job in its result folder, and who may write them.

    job.json          which input this is, the job's id, how often it was started
    journal.jsonl     one line per finished item: the ledger that resuming reads (`journal`)
    results.jsonl     all rows in the order of the input, written at the end of each start
    results.parquet   the same
    summary.json      the figures of the last start that came to its end

A folder belongs to one input. Running the same command again goes on where the last start ended; while a process
writes, the lock on the folder keeps others out.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from rayflow.batch.durable import replacing, storage_errors
from rayflow.batch.journal import Journal
from rayflow.batch.source import InputIdentity
from rayflow.batch.summary import Summary
from rayflow.errors import Conflict, StorageError


class Job(msgspec.Struct, frozen=True):
    """`starts`: how often the job was begun, this time included. `created_us`: microseconds since the epoch."""

    job_id: str
    input: InputIdentity
    starts: int
    created_us: int
    version: int = 1

    def session_id(self, ordinal: int) -> str:
        """A session of its own for each item and start: what an interrupted start left half said is not continued."""
        return f"batch-{self.job_id}-{self.starts}-{ordinal}"


class JobFolder:
    """The result folder `path`; it need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.job = path / "job.json"
        self.journal = path / "journal.jsonl"
        self.results_jsonl = path / "results.jsonl"
        self.results_parquet = path / "results.parquet"
        self.summary = path / "summary.json"

    def plan(self, source: InputIdentity, now_us: int, overwrite: bool = False) -> Job:
        """The job that a start would be now; writes nothing.

        Raises `Conflict` where the folder belongs to another input, `StorageError` where it cannot be understood.
        """
        if self.path.exists() and not self.path.is_dir():
            raise Conflict(f"{self.path} is a file; --out names a folder for the results")
        before = None if overwrite else self._read_job()
        if before is None:
            if not overwrite and any(file.exists() for file in self._files):
                raise Conflict(f"{self.path} holds result files but no job.json; use another folder, or --overwrite")
            return Job(secrets.token_hex(16), source, 1, now_us)
        if not before.input.same_items(source):
            raise Conflict(
                f"{self.path} holds the results of another input, or the input has changed since: it was "
                f"{before.input.path} ({before.input.size_bytes} bytes, field {before.input.field or 'any'}); "
                "use another folder, or --overwrite"
            )
        return msgspec.structs.replace(before, starts=before.starts + 1)

    @contextmanager
    def opened(self, source: InputIdentity, now_us: int, overwrite: bool = False) -> Iterator[tuple[Job, Journal]]:
        """Begin a start: make the folder, keep others out, note the start, open the journal.

        Raises as `plan`, and `Conflict` where another process is writing to it.
        """
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with self._locked():
            job = self.plan(source, now_us, overwrite)
            if job.starts == 1:
                for file in self._files:
                    file.unlink(missing_ok=True)
            # Without the old summary a crash of this start cannot look like its end.
            self.summary.unlink(missing_ok=True)
            with replacing(self.job) as path:
                path.write_bytes(msgspec.json.format(msgspec.json.encode(job)))
            with Journal(self.journal) as journal:
                yield job, journal

    def finished(self) -> Summary | None:
        """The summary of the last start, where that came to its end."""
        try:
            return msgspec.json.decode(self.summary.read_bytes(), type=Summary)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise StorageError(
                f"{self.summary} is damaged ({error}); delete it and run the same command again"
            ) from error

    def write_summary(self, summary: Summary) -> None:
        with replacing(self.summary) as path:
            path.write_bytes(msgspec.json.format(msgspec.json.encode(summary)))

    @property
    def _files(self) -> tuple[Path, ...]:
        return (self.job, self.journal, self.results_jsonl, self.results_parquet, self.summary)

    def _read_job(self) -> Job | None:
        try:
            return msgspec.json.decode(self.job.read_bytes(), type=Job)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise StorageError(f"{self.job} is damaged ({error}); use another folder, or --overwrite") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                message = f"another batch is writing to {self.path}; wait for it, or use another folder"
                raise Conflict(message) from error
            yield
        finally:
            os.close(descriptor)
