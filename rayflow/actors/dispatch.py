"""Asking replicas for the parts of runs. All retries between processes are decided in this one loop.

A question that nobody has begun to work on (its replica is gone, or draining) is asked elsewhere at once. When a
replica dies over a part, the part is asked again of another one if that is safe: nothing of it has reached the client,
the run has time left, and the retry budget allows it. The client itself says whether it has received anything: tokens
go there directly, and only there is the truth. What kills replicas is quarantined (`policies.quarantine`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection
from contextlib import nullcontext
from typing import NamedTuple

from rayflow.actors.persistence import PATIENCE_S, PAUSE_S, died, untouched
from rayflow.actors.pools import Pools
from rayflow.actors.work import Work
from rayflow.clock import Clock, remaining_s
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import DeadlineExceeded, PeerLost, PoisonMessage, UnknownAddress, WorkflowError
from rayflow.events import Event
from rayflow.messages import AgentCall, AgentReply, VoidAttempt, Voided
from rayflow.policies.budget import RetryBudget
from rayflow.policies.quarantine import ONE_INCIDENT_S, Exposure, Quarantine, Sentence
from rayflow.policies.retry import backoff_s, safe_to_repeat
from rayflow.runtime.part import PartState
from rayflow.runtime.ports import Fabric

OPEN = nullcontext()
CLIENT_S = 1.0
"""How long a client may take to say what it has received."""


class Miss(NamedTuple):
    """An attempt that brought no answer and no error of the part itself."""

    error: WorkflowError
    exposure: Exposure


class Dispatch:
    """`record` takes the events of a run."""

    def __init__(
        self,
        config: WorkflowConfig,
        fabric: Fabric,
        record: Callable[[Work, Event], None],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._limit_s = config.processing.request_timeout_s
        self._fabric = fabric
        self._record = record
        self._clock = clock
        self._rng = rng
        self._pools = Pools(config, fabric, clock, rng)
        self._quarantine = Quarantine()
        self._budgets = {agent.name: RetryBudget() for agent in config.agents}
        self._lanes = {agent.name: asyncio.Lock() for agent in config.agents}
        """Of several suspects of an agent, one at a time is at work."""

    def watch(self) -> None:
        self._pools.watch()

    def admit(self, run_id: str) -> None:
        """Raises `PoisonMessage` for a run in quarantine."""
        if sentence := self._quarantine.guilty(run_id):
            raise poison(run_id, sentence)

    async def ask(self, work: Work, part: PartState) -> AgentReply:
        """The answer to one part of a run, from whichever replica lives to give it.

        Raises what the replica raised, `PeerLost` where it died and the part cannot be asked again, `PoisonMessage`
        where the message is the cause, and what `Pools.reserve` raises.
        """
        run = work.run
        try:
            outcome = await self._attempt(work, part)
            reply = await self._persist(work, part, outcome) if isinstance(outcome, Miss) else outcome
        except Exception as error:
            self._record(work, run.part_failed(part, error, self._clock.now(), self._clock.wall_us()))
            raise
        self._record(work, run.part_finished(part, reply, self._clock.wall_us()))
        return reply

    async def _persist(self, work: Work, part: PartState, miss: Miss) -> AgentReply:
        until = self._clock.now() + PATIENCE_S
        avoid: set[str] = set()
        isolated = False
        while True:
            replica = miss.exposure.replica
            if died(miss.error):
                isolated = await self._after_death(work, part, miss)
                until = self._clock.now() + PATIENCE_S
            elif self._clock.now() >= until:
                raise miss.error
            elif replica in avoid:
                await asyncio.sleep(PAUSE_S)  # there is no other
            avoid.add(replica)
            async with self._lanes[part.agent] if isolated else OPEN:
                outcome = await self._attempt(work, part, avoid, isolated=isolated)
            if not isinstance(outcome, Miss):
                return outcome
            miss = outcome

    async def _attempt(
        self, work: Work, part: PartState, avoid: Collection[str] = (), *, isolated: bool = False
    ) -> AgentReply | Miss:
        run = work.run
        async with self._pools.reserve(part.agent, self._left(), avoid) as grant:
            now = self._clock.now()
            self._budgets[part.agent].request(now)
            self._record(work, run.part_started(part, grant.replica, grant.waited_s, now, self._clock.wall_us()))
            exposure = self._quarantine.enter(run.request.run_id, part.agent, grant.replica, isolated)
            try:
                reply: AgentReply = await self._fabric.ask(grant.replica, _call(work, part), self._left())
            except WorkflowError as error:
                if died(error):
                    return Miss(error, exposure)
                self._quarantine.left(exposure)
                if untouched(error):
                    return Miss(error, exposure)
                raise
            except BaseException:
                self._quarantine.left(exposure)
                raise
            self._quarantine.cleared(exposure)
            return reply

    async def _after_death(self, work: Work, part: PartState, miss: Miss) -> bool:
        """Wait until the part may be asked again; whether it must be the only suspect then.

        Raises the error of the miss where it may not, `PoisonMessage` where it never may.
        """
        verdict = self._quarantine.died(miss.exposure, self._clock.now())
        if verdict == "quarantine":
            error = poison(work.request.run_id, Sentence(part.agent, miss.exposure.deaths))
            self._record(work, work.run.quarantined(part, error, self._clock.wall_us()))
            raise error
        delay_s = backoff_s(part.attempt, self._rng)
        if verdict == "isolate":
            delay_s += ONE_INCIDENT_S  # whatever else goes down with this replica is down then
        if (
            not safe_to_repeat(await self._delivered(work, part))
            or delay_s >= self._left()
            or not self._budgets[part.agent].retry(self._clock.now())
        ):
            raise miss.error
        isolated = verdict == "isolate"
        self._record(work, work.run.part_retried(part, delay_s, isolated, self._clock.wall_us()))
        await asyncio.sleep(delay_s)
        return isolated

    async def _delivered(self, work: Work, part: PartState) -> int | None:
        """How many pieces of this part the client has; None where it does not say. Of the attempt that died it takes
        no more."""
        client = work.run.streams_to
        if not client:
            return 0
        void = VoidAttempt(work.request.run_id, part.agent, work.run.attempt_number(part))
        try:
            voided: Voided = await self._fabric.ask(client, void, min(CLIENT_S, self._left()))
        except (UnknownAddress, PeerLost):
            return 0  # nobody is there who could have received anything
        except DeadlineExceeded:
            return None
        return voided.delivered

    def _left(self) -> float:
        return remaining_s(self._clock.now(), self._limit_s)


def _call(work: Work, part: PartState) -> AgentCall:
    run, request = work.run, work.request
    start, step = run.token_numbers(part)
    return AgentCall(
        run_id=request.run_id,
        agent=part.agent,
        messages=work.context,
        params=request.params,
        client=run.streams_to,
        seq_start=start,
        seq_step=step,
        attempt=run.attempt_number(part),
        instructions=request.instructions,
        system_prompt=request.system_prompt,
    )


def poison(run_id: str, sentence: Sentence) -> PoisonMessage:
    """Why a run in quarantine is refused."""
    return PoisonMessage(
        f"this message ended {len(sentence.replicas)} processes that worked on it and will not be tried again;"
        " change it, or look for the cause in the logs of these replicas",
        run_id=run_id,
        agent=sentence.agent,
        replicas=list(sentence.replicas),
    )
