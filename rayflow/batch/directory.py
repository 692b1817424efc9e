"""The folder of a job: its files, who may write them, and how others ask something of the job.

    job.json                 what the job is (`spec`), its id, how often it was started
    status.json              how far it is, written anew every second while it runs
    journal/00000.jsonl      rows that are finished, of a range that is not; one file for each such range
    journal/00000.2-1.jsonl  the same, written by a feeder under the first lease of the second start
    results/part-00000.parquet   the rows of a range (`ranges`)
    sample.bin               which rows were drawn, where some were
    request                  what somebody asked of the running job: pause or cancel

A folder belongs to one job. A start goes on where the last one ended; while a process works on it, the lock on the
folder keeps others out.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from rayflow.app.durable import replacing, storage_errors
from rayflow.batch.spec import JobSpec
from rayflow.batch.status import JobStatus
from rayflow.errors import Conflict, NotFound, StorageError

VERSION = 2
_EARLIER = ("journal.jsonl", "results.jsonl", "results.parquet", "summary.json")
"""What the first layout had."""

LOCK_TRIES = 5
"""Who only looks whether the folder is locked holds the lock for a moment."""

Request = Literal["pause", "cancel"]
T = TypeVar("T")


class Job(msgspec.Struct, frozen=True):
    """`starts`: how often the job was begun. `created_us`: microseconds since the epoch."""

    job_id: str
    spec: JobSpec
    created_us: int
    starts: int = 0
    version: int = VERSION


class _Version(msgspec.Struct):
    version: int = 1


class JobDirectory:
    """The folder `path`; it need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results = path / "results"
        self.journal = path / "journal"
        self.sample = path / "sample.bin"
        self._job = path / "job.json"
        self._status = path / "status.json"
        self._request = path / "request"

    # --- what it is ---

    def plan(self, spec: JobSpec, now_us: int, *, job_id: str = "", overwrite: bool = False) -> Job:
        """The job that a start with `spec` would be: a new one, or the one that is there with the limits of `spec`.
        Writes nothing.

        Raises `Conflict` where the folder is another job's, `StorageError` where it cannot be understood.
        """
        if self.path.exists() and not self.path.is_dir():
            raise Conflict(f"{self.path} is a file; a job needs a folder of its own")
        before = None if overwrite else self._found()
        if before is None:
            if not overwrite and (self.results.exists() or self.journal.exists()):
                raise Conflict(f"{self.path} holds results but no job.json; use another folder, or --overwrite")
            return Job(job_id or secrets.token_hex(16), spec, now_us)
        if before.spec.identity != spec.identity:
            raise Conflict(
                f"{self.path} holds the results of another job: {_difference(before.spec, spec)}; use another folder,"
                " or --overwrite"
            )
        return msgspec.structs.replace(before, spec=spec)

    def job(self) -> Job:
        """Raises `NotFound` where there is none."""
        found = self._found()
        if found is None:
            raise NotFound(f"there is no batch job in {self.path}", kind="batch", id=self.path.name)
        return found

    def create(self, job: Job) -> None:
        """Make the folder of a job that shall be started later. One that is there goes on with the job's limits."""
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self._write(self._job, job)
        if not self._status.exists():
            self.write_status(JobStatus(job.job_id, "created", created_us=job.created_us, updated_us=job.created_us))

    @contextmanager
    def started(self, job: Job, *, overwrite: bool = False) -> Iterator[Job]:
        """Keep others out and note the start. Raises `Conflict` where another process works on the job."""
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if overwrite:
                self._clear()
            job = msgspec.structs.replace(job, starts=job.starts + 1)
            self._request.unlink(missing_ok=True)
            self._write(self._job, job)
            with storage_errors(self.path):
                self.results.mkdir(exist_ok=True)
                self.journal.mkdir(exist_ok=True)
            yield job

    # --- how far it is ---

    def status(self) -> JobStatus:
        """As it was written last; what says that it runs though no process works on it is interrupted.

        Raises `NotFound`, and `StorageError` where it cannot be understood.
        """
        status = self._read(self._status, JobStatus)
        if status is None:
            job = self.job()
            status = JobStatus(job.job_id, "created", created_us=job.created_us, updated_us=job.created_us)
        if status.state == "running" and not self.running:
            return msgspec.structs.replace(status, state="interrupted", in_flight=0, left_s=None)
        return status

    def write_status(self, status: JobStatus) -> None:
        """Raises `StorageError`."""
        temporary = self._status.with_name(".status.json.tmp")
        with storage_errors(self._status):
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(status)))
            temporary.replace(self._status)

    @property
    def running(self) -> bool:
        """Whether a process works on the job now."""
        try:
            with self._locked():
                return False
        except Conflict:
            return True
        except FileNotFoundError:
            return False

    # --- what is asked of it ---

    def ask(self, request: Request) -> None:
        """Have whoever works on the job end its start. It is heard within about a second."""
        with storage_errors(self._request):
            self._request.write_text(request)

    def asked(self) -> Request | None:
        """What was asked since the start."""
        with suppress(FileNotFoundError):
            match self._request.read_text().strip():
                case "pause":
                    return "pause"
                case "cancel":
                    return "cancel"
        return None

    # --- files ---

    def part(self, number: int) -> Path:
        return self.results / f"part-{number:05d}.parquet"

    def journal_of(self, number: int, lease: str = "") -> Path:
        """`lease`: of the feeder that writes it, where that is another process than the job's own."""
        return self.journal / (f"{number:05d}.{lease}.jsonl" if lease else f"{number:05d}.jsonl")

    def parts(self) -> list[Path]:
        """The parts there are, in the order of the input."""
        return sorted(self.results.glob("part-*.parquet"), key=number_of)

    def journals(self) -> list[Path]:
        return sorted(self.journal.glob("*.jsonl"), key=number_of)

    def _found(self) -> Job | None:
        try:
            data = self._job.read_bytes()
        except FileNotFoundError:
            return None
        try:
            if msgspec.json.decode(data, type=_Version).version != VERSION:
                raise Conflict(
                    f"{self.path} was written by an earlier version of rayflow, which kept all results in one file:"
                    " they stay readable there; use another folder, or --overwrite"
                )
            return msgspec.json.decode(data, type=Job)
        except msgspec.DecodeError as error:
            raise StorageError(f"{self._job} is damaged ({error}); use another folder, or --overwrite") from error

    def _read(self, path: Path, kind: type[T]) -> T | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise StorageError(f"{path} is damaged ({error}); delete it and start the job again") from error

    def _write(self, path: Path, value: msgspec.Struct) -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(value)))

    def _clear(self) -> None:
        """Forget what the folder holds of a job; files of others stay."""
        with storage_errors(self.path):
            for file in (*self.parts(), *self.journals()):
                file.unlink()
            for name in (self._job.name, self._status.name, self.sample.name, *_EARLIER):
                (self.path / name).unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for _ in range(LOCK_TRIES):
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(0.01)
                else:
                    break
            else:
                raise Conflict(f"another process works on the job in {self.path}; wait for it, or use another folder")
            yield
        finally:
            os.close(descriptor)


def number_of(path: Path) -> int:
    """The number of a part or a journal."""
    return int(path.name.removeprefix("part-").partition(".")[0])


def _difference(before: JobSpec, now: JobSpec) -> str:
    """What a person should look at first."""
    if before.version != now.version:
        return f"the workflow {now.workflow!r} has changed since, or another one was used"
    for name in ("mode", "selection", "judging", "agent", "params", "system_prompt", "tenant", "user_id", "inputs"):
        if getattr(before, name) != getattr(now, name):
            return f"its {name} was {msgspec.json.encode(getattr(before, name)).decode()}"
    return "it is different"
