"""A job whose rows feeders run: actors of the system, over all of its nodes.

The owner of the job stays here. It gives out ranges of the input by lease (`leases`), asks each feeder a few times a
second how far it is, which keeps the lease alive as well, and alone changes parts of the results: it merges the journal
of a lease that is done, or whose feeder is lost. Feeders need to see the input and the folder of the job, and nothing
else; they say at once where they do not.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from rayflow.app.durable import storage_errors
from rayflow.batch import parts
from rayflow.batch.directory import Job, JobDirectory
from rayflow.batch.inputs.places import is_address
from rayflow.batch.inputs.source import seen
from rayflow.batch.leases import Leases
from rayflow.batch.selection import Reader, draw
from rayflow.batch.sharing import Hand, out_of_money, share
from rayflow.batch.status import Totals
from rayflow.batch.workforce import Ends
from rayflow.clock import Clock
from rayflow.errors import PeerLost, WorkflowError, from_info
from rayflow.messages import Advance, Advanced, KeepFeeders, Lease
from rayflow.runtime.ports import Fabric
from rayflow.runtime.roster import COORDINATOR, feeder_address

KEEP_INTERVAL_S = 1.0
ASK_S = 2.0
PAUSE_S = 0.1
"""Until somebody is asked again who did not answer."""
SILENT_S = 10.0
"""A feeder that does not answer for so long, and is not known to be dead, has lost its leases."""


class Crew:
    """A `Workforce`. `totals`: of all earlier starts."""

    def __init__(
        self,
        fabric: Fabric,
        directory: JobDirectory,
        job: Job,
        source: Reader,
        totals: Totals,
        ends: Ends,
        clock: Clock,
        *,
        retry_failed: bool,
    ) -> None:
        limits = job.spec.limits
        self._fabric = fabric
        self._directory = directory
        self._job = job
        self._limits = limits
        self._source = source
        self._merged = totals
        self._ends = ends
        self._clock = clock
        self._retry_failed = retry_failed
        self._leases = Leases(job.starts)
        self._hands = [Hand(feeder_address(i), clock.now()) for i in range(min(limits.feeders, limits.concurrency))]
        self._halted = False
        self._selected = 0
        self._run_before = 0
        """Rows that were run by feeders that are no more."""
        self._merger = ThreadPoolExecutor(1, "merge")
        self._seen = ""
        self._paths = [path if is_address(path) else str(Path(path).absolute()) for path in job.spec.inputs.paths]
        self.blank_lines = 0

    # --- how far it is ---

    @property
    def totals(self) -> Totals:
        found = msgspec.structs.replace(self._merged, errors=dict(self._merged.errors))
        for hand in self._hands:
            for held in hand.held.values():
                found.add(held)
        return found

    @property
    def in_flight(self) -> int:
        return sum(hand.in_flight for hand in self._hands)

    @property
    def window(self) -> int:
        return sum(min(hand.granted, hand.said.window) for hand in self._hands if hand.said is not None)

    @property
    def run(self) -> int:
        return self._run_before + sum(hand.said.run for hand in self._hands if hand.said is not None)

    # --- its life ---

    def halt(self) -> None:
        self._halted = True

    async def work(self) -> int | None:
        spec = self._job.spec
        try:
            await asyncio.to_thread(draw, self._source, spec.selection, self._directory.sample)
            self._seen = await asyncio.to_thread(seen, spec.inputs)
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(self._keep())
                async with asyncio.TaskGroup() as tending:
                    for hand in self._hands:
                        tending.create_task(self._tend(hand))
                keeping.cancel()
        finally:
            await self._release()
        return self._selected if self._leases.over else None

    async def _keep(self) -> None:
        while True:
            self._fabric.tell(COORDINATOR, KeepFeeders(self._job.job_id, len(self._hands)))
            await asyncio.sleep(KEEP_INTERVAL_S)

    async def _release(self) -> None:
        """Nobody works on the job any more, and what was finished is part of the results."""
        for hand in self._hands:
            if hand.work:
                self._fabric.tell(hand.address, msgspec.structs.replace(self._advance(hand), order="drop"))
        self._fabric.tell(COORDINATOR, KeepFeeders(self._job.job_id, 0))
        try:
            for hand in self._hands:
                await self._lost(hand)
        finally:
            await asyncio.to_thread(self._merger.shutdown)

    # --- one feeder ---

    async def _tend(self, hand: Hand) -> None:
        while not (self._leases.over or (self._halted and not hand.leases)):
            if not await self._talk(hand):
                await asyncio.sleep(PAUSE_S)

    async def _talk(self, hand: Hand) -> bool:
        """Ask it once; whether it answered. It takes its time to answer while there is nothing new."""
        await self._give(hand)
        try:
            said: Advanced = await self._fabric.ask(hand.address, self._advance(hand), ASK_S)
        except WorkflowError as error:
            # One that is not in the directory may be on its way out, and finish what it has in flight.
            if isinstance(error, PeerLost) or self._clock.now() - hand.heard > SILENT_S:
                await self._lost(hand)
            return False
        hand.heard = self._clock.now()
        await self._hear(hand, said)
        return True

    async def _give(self, hand: Hand) -> None:
        """One more range, where it has nothing more to begin."""
        if self._halted or hand.said is None or not hand.said.wants:
            return
        if (lease := self._leases.give()) is not None:
            hand.leases[lease.name] = lease
            hand.said = msgspec.structs.replace(hand.said, wants=False)
            await asyncio.to_thread(self._open, lease)

    async def _hear(self, hand: Hand, said: Advanced) -> None:
        if said.work != hand.work:
            # Another process, or one that has begun anew.
            await self._lost(hand)
            hand.work = said.work
        # At once: what it says to have spent is what its rows have cost.
        hand.said = said
        held = {each.name: msgspec.json.decode(each.totals, type=Totals) for each in said.leases}
        hand.held = {name: totals for name, totals in held.items() if name in hand.leases}
        for lease in [hand.leases[each.name] for each in said.leases if each.done and each.name in hand.leases]:
            await self._merge(hand, lease)
            self._leases.finish(lease)
        if said.end is not None:
            last, self._selected = said.end
            self.blank_lines = said.blank_lines
            self._leases.ended(last)
        if said.error is not None:
            error = from_info(said.error)
            if not said.pauses:
                raise error
            self._ends.refused(error)
        if out_of_money(hand, self._hands):
            self._ends.starved()
        if said.closed:
            await self._lost(hand)

    async def _lost(self, hand: Hand) -> None:
        """What it has finished is kept, what it has not is somebody else's now."""
        for lease in [*hand.leases.values()]:
            await self._merge(hand, lease)
            self._leases.take_back(lease)
        self._run_before += hand.said.run if hand.said is not None else 0
        hand.forget()

    # --- what it is told ---

    def _advance(self, hand: Hand) -> Advance:
        return Advance(
            job_id=self._job.job_id,
            start=self._job.starts,
            folder=str(self._directory.path.absolute()),
            paths=self._paths,
            seen=self._seen,
            share=share(hand, self._hands, self._limits, self.totals),
            work=hand.work,
            leases=[*hand.leases.values()],
            order="stop" if self._halted else "run",
            retry_failed=self._retry_failed,
        )

    # --- files ---

    def _open(self, lease: Lease) -> None:
        """A journal that its feeder finds, and that nobody else makes."""
        path = self._directory.journal_of(lease.range, lease.name)
        with storage_errors(path):
            path.touch(exist_ok=False)

    async def _merge(self, hand: Hand, lease: Lease) -> None:
        def done(merging: asyncio.Future[Totals]) -> None:
            hand.leases.pop(lease.name, None)
            hand.held.pop(lease.name, None)
            if not merging.exception():
                self._merged.add(merging.result())

        # Shielded: who is cancelled meanwhile leaves totals behind that are right.
        merging = asyncio.get_running_loop().run_in_executor(self._merger, self._merge_now, lease)
        merging.add_done_callback(done)
        await asyncio.shield(merging)

    def _merge_now(self, lease: Lease) -> Totals:
        """What that has changed of the totals."""
        part = self._directory.part(lease.range)
        before = parts.totals_of(part) if part.exists() else Totals()
        change = parts.merge(part, self._directory.journal_of(lease.range, lease.name))
        change.add(before, -1)
        return change
