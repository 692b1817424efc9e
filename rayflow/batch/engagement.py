"""What a feeder does for one start of a job: it works on the ranges that it has by lease, and writes their journals.

The owner of the job says what it holds and how much it may use, and hears how far it is. A lease that is done was gone
through to its end, and its journal is closed and on disk.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections import deque
from contextlib import suppress
from pathlib import Path

import msgspec

from rayflow.batch.directory import Job, JobDirectory
from rayflow.batch.feeding import SYNC_INTERVAL_S, Feeding, budget, size
from rayflow.batch.inputs.source import Source, seen
from rayflow.batch.left import Left, Passing
from rayflow.batch.pacing import Purse
from rayflow.batch.ranges import Range
from rayflow.batch.reading import Ahead
from rayflow.batch.runner import RunClient
from rayflow.batch.status import Totals
from rayflow.clock import Clock
from rayflow.errors import NotFound, ValidationError, WorkflowError, to_info
from rayflow.messages import Advance, Advanced, Held, Lease

ANSWER_S = 0.25
"""An owner for whom there is nothing new is answered after this time."""

log = logging.getLogger(__name__)


class Engagement:
    """`name`: of this work and no other; `heard`: when the owner last spoke. `over`: nothing is in flight, and all
    journals are closed."""

    def __init__(self, address: str, client: RunClient, message: Advance, clock: Clock) -> None:
        self.name = secrets.token_hex(8)
        self.heard = clock.now()
        self.over = asyncio.Event()
        self._address = address
        self._client = client
        self._about = message
        self._clock = clock
        self._feeding: Feeding | None = None
        self._passing: Passing | None = None
        self._purse: Purse | None = None
        self._source: Source | None = None
        self._accepted: set[str] = set()
        """Names of the leases that the owner has not heard the end of."""
        self._queue: deque[Lease] = deque()
        self._ranges: dict[str, Range] = {}
        """Of leases that were begun."""
        self._done: set[str] = set()
        """Names of the leases under which nothing is left to run."""
        self._reading = False
        self._starved = False
        self._halted = False
        self._error: Exception | None = None
        self._pauses = False
        self._news = asyncio.Event()
        """There is something that the owner should know at once."""
        self._orders = asyncio.Event()
        """There may be another lease."""
        self._life = asyncio.create_task(self._live())

    # --- with the owner ---

    def continues(self, message: Advance) -> bool:
        """Whether this is the work that is meant. One that nobody has been told of yet is anybody's."""
        if message.start != self._about.start:
            return False
        return message.work == self.name or not (self._accepted or self.over.is_set())

    async def advance(self, message: Advance) -> Advanced:
        """Do what the owner says, and answer as soon as there is something to say."""
        self.heard = self._clock.now()
        if message.work == self.name:
            self._take(message)
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                await self._news.wait()
        self._news.clear()
        return self._answer()

    def halt(self) -> None:
        """Begin no further row."""
        self._halted = True
        self._orders.set()
        if self._feeding is not None:
            self._feeding.halt()

    async def drop(self) -> None:
        """What is in flight is lost."""
        self._life.cancel()
        await asyncio.wait([self._life])

    def _take(self, message: Advance) -> None:
        held = {lease.name for lease in message.leases}
        self._ranges = {name: part for name, part in self._ranges.items() if name in held or name not in self._done}
        self._done &= held
        self._queue.extend(lease for lease in message.leases if lease.name not in self._accepted)
        self._accepted = held
        self._orders.set()
        if message.order == "stop":
            self.halt()
        share = message.share
        if (purse := self._purse) is not None and share.cost_usd is not None:
            other = share.row_usd is not None and purse.expect(share.row_usd)
            self._starved = self._starved and not other and purse.limit == share.cost_usd
            purse.limit = share.cost_usd
        if self._feeding is not None:
            self._feeding.limit(share.concurrency, share.rows_per_s, share.tokens_per_min)

    def _answer(self) -> Advanced:
        feeding = self._feeding
        return Advanced(
            work=self.name,
            leases=[Held(n, msgspec.json.encode(part.totals), n in self._done) for n, part in self._ranges.items()],
            in_flight=feeding.in_flight if feeding is not None else 0,
            window=feeding.window.size if feeding is not None else 0,
            run=feeding.run if feeding is not None else 0,
            spent_usd=self._purse.spent if self._purse is not None else 0.0,
            blank_lines=self._source.blank_lines if self._source is not None else 0,
            wants=feeding is not None and not (self._halted or self._reading or self._queue),
            starved=self._starved,
            closed=self.over.is_set(),
            end=self._passing.end if self._passing is not None else None,
            error=to_info(self._error) if self._error is not None else None,
            pauses=self._pauses,
        )

    # --- its work ---

    async def _live(self) -> None:
        try:
            job, left = await asyncio.to_thread(self._look)
            await self._work(job, left)
            for part in self._ranges.values():
                await asyncio.to_thread(part.close)
        except Exception as error:
            self._fail(error)
        finally:
            for part in self._ranges.values():
                part.drop()
            self.over.set()
            self._news.set()

    async def _work(self, job: Job, left: Left) -> None:
        purse = budget(self._client.config, job.spec, 0.0)
        if purse is not None:
            purse.limit = 0.0
        self._purse = purse
        self._passing = passing = Passing(left)
        self._feeding = feeding = Feeding(
            self._client, job, purse, self._settled, self._refused, self._is_starved, self._clock
        )
        feeding.limit(0, None, None)  # until the owner says more
        if self._halted:
            feeding.halt()
        self._news.set()
        async with asyncio.TaskGroup() as tasks:
            durable = tasks.create_task(self._keep_durable())
            async with asyncio.TaskGroup() as work:
                while (lease := await self._next()) is not None:
                    await self._feed(lease, feeding, passing, work)
            durable.cancel()

    async def _next(self) -> Lease | None:
        while not self._halted and not self._queue:
            self._orders.clear()
            await self._orders.wait()
        if self._halted:
            return None
        self._reading = True
        return self._queue.popleft()

    async def _feed(self, lease: Lease, feeding: Feeding, passing: Passing, work: asyncio.TaskGroup) -> None:
        directory = JobDirectory(Path(self._about.folder))
        part = await asyncio.to_thread(Range, directory, lease.range, Totals(), lease.name)
        self._ranges[lease.name] = part
        ahead = Ahead(passing.entries(part), size, feeding.halted)
        try:
            await feeding.feed(ahead, work)
        finally:
            await ahead.close()
        self._reading = False
        self._news.set()

    async def _settled(self, part: Range) -> None:
        await asyncio.to_thread(part.close)
        self._done.add(part.lease)
        self._news.set()

    async def _keep_durable(self) -> None:
        while True:
            await asyncio.sleep(SYNC_INTERVAL_S)
            for part in [*self._ranges.values()]:
                await asyncio.to_thread(part.sync)

    def _refused(self, error: WorkflowError) -> None:
        if self._error is None:
            self._error, self._pauses = error, True
            self._news.set()
        self.halt()

    def _is_starved(self) -> None:
        if not self._starved:
            self._starved = True
            self._news.set()

    def _fail(self, error: Exception) -> None:
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        if not isinstance(error, WorkflowError):
            log.exception("%s failed unexpectedly with job %s", self._address, self._about.job_id)
        self._error, self._pauses = error, False

    def _look(self) -> tuple[Job, Left]:
        """The job as it lies there. Raises `ValidationError` where this machine does not see what its owner sees."""
        about, here = self._about, f"{self._address} on {socket.gethostname()}"
        directory = JobDirectory(Path(about.folder))
        shared = "all machines with feeders must see it, on a shared file system"
        try:
            job = directory.job()
        except NotFound:
            raise ValidationError(f"{here} does not see the folder of the job, {about.folder}: {shared}") from None
        if (job.job_id, job.starts) != (about.job_id, about.start):
            raise ValidationError(f"{here} sees another job in {about.folder} than its owner: {shared}")
        inputs = msgspec.structs.replace(job.spec.inputs, paths=about.paths)
        try:
            same = seen(inputs) == about.seen
        except ValidationError as error:
            raise ValidationError(f"{here} does not see the input: {error.message}; {shared}") from error
        if not same:
            raise ValidationError(f"{here} sees other files at {', '.join(about.paths)} than the job's owner: {shared}")
        self._source = source = Source(inputs, whole=bool(job.spec.selection.where))
        return job, Left(directory, job.spec, source, retry_failed=about.retry_failed)
