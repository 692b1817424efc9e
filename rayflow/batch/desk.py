"""Runs the jobs that came in over HTTP: takes each that is not finished, brings it to its end, and tells the end.

Everything that matters is on disk before it counts: the record of a job says how far it is, the engine's folder which
rows it has. So this process may die at any point, and the next one goes on where it was. One process at a time works on
a job: a lock on its folder, which the kernel drops with its holder, keeps others out.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rayflow.app.client import SystemClient
from rayflow.app.jobs.records import ENDED, JobRecord, JobStore, sweep
from rayflow.batch.notice import Notices
from rayflow.batch.work import Work
from rayflow.clock import SYSTEM_CLOCK
from rayflow.errors import WorkflowError

LOOK_S = 0.5
"""How soon it sees what was asked of it."""
PATIENCE_S = 60.0
"""What an OpenAI batch was refused (a quota, a key) is tried again after this time: nobody can resume it by hand."""

log = logging.getLogger(__name__)


class Desk:
    """`client`: of the system that runs the rows. `stop` ends it; so does having had nothing to do for `idle_s` (None:
    never)."""

    def __init__(self, client: SystemClient, idle_s: float | None) -> None:
        self._client = client
        self._idle_s = idle_s
        self._store = JobStore(Path(client.config.storage.state))
        self._notices = Notices(client, self._store)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """What is done for a job: it is run, or its end is told."""
        self._working: dict[str, Work] = {}
        self._resting: set[str] = set()
        self._woken = asyncio.Event()
        self._stopped = False
        self._waiting = False
        """Whether there is something to do later."""

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    def stop(self) -> None:
        """Begin nothing more; `run` returns when the rows in flight are finished."""
        self._stopped = True
        for work in self._working.values():
            work.stop()
        self._woken.set()

    async def run(self) -> None:
        """Until it is stopped or idle. Cancelling drops the rows in flight; nothing that is finished is lost."""
        busy_at = SYSTEM_CLOCK.now()
        await asyncio.to_thread(sweep, Path(self._client.config.storage.state))
        try:
            while not self._stopped:
                self._woken.clear()
                if await self._look():
                    busy_at = SYSTEM_CLOCK.now()
                elif self._idle_s is not None and SYSTEM_CLOCK.now() - busy_at >= self._idle_s:
                    return
                forever = self._idle_s is None and not self._waiting
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), None if forever else LOOK_S)
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        finally:
            tasks = [*self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> bool:
        """Begin what can be begun. Whether there is anything to do, now or later."""
        records = await asyncio.to_thread(self._store.unfinished, self._resting)
        for record in records:
            if record.id in self._tasks:
                continue
            if record.status in ENDED:
                if self._notices.due(record):
                    self._begin(record.id, self._tell(record))
            elif self._may_begin(record):
                work = self._working[record.id] = Work(self._client, self._store, record.id)
                self._begin(record.id, self._work(work))
        self._waiting = bool(records) or bool(self._tasks)
        return self._waiting

    def _may_begin(self, record: JobRecord) -> bool:
        if record.status == "cancelling":
            return True
        if record.status == "paused" and self._client.now_us() / 1e6 < record.times["paused"] + PATIENCE_S:
            return False
        return len(self._working) < self._client.config.batch.jobs

    def _begin(self, job_id: str, doing: Coroutine[Any, Any, None]) -> None:
        def done(_: asyncio.Task[None]) -> None:
            del self._tasks[job_id]
            self._working.pop(job_id, None)
            self._woken.set()

        self._tasks[job_id] = asyncio.create_task(doing)
        self._tasks[job_id].add_done_callback(done)

    async def _work(self, work: Work) -> None:
        with leased(work.files.folder) as mine:
            if mine:
                try:
                    await work.run()
                except WorkflowError as error:
                    await work.fail(f"{error.slug}: {error.message}")
                except Exception:
                    log.exception("the batch %s failed unexpectedly", work.files.folder.name)
                    await work.fail("unexpected error; the log of the batch process has it")
            else:
                await asyncio.sleep(LOOK_S)

    async def _tell(self, record: JobRecord) -> None:
        with leased(self._store.files(record.id).folder) as mine:
            if mine:
                await self._notices.tell(record)


@contextmanager
def leased(folder: Path) -> Iterator[bool]:
    """Whether the job is this process's for as long as the context lasts."""
    with (folder / "lease").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        os.set_inheritable(file.fileno(), False)
        yield True
