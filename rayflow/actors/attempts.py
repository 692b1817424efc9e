"""One attempt at a part: one call of one replica, or two where it is hedged.

An attempt goes through the gate of its model, waits for a place at a replica, and tells everybody what came of it: the
gate (is the model well), the pool (is the replica well), the quarantine (who was there when it died) and the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, NamedTuple

from rayflow.actors.gates import Change, Gate, Permit
from rayflow.actors.hedge import hedged
from rayflow.actors.persistence import died, untouched
from rayflow.actors.pools import Pools, Reservation
from rayflow.actors.work import Work
from rayflow.chat import Usage
from rayflow.clock import Clock
from rayflow.errors import Unavailable, WorkflowError
from rayflow.events import Event
from rayflow.messages import AgentCall, AgentReply
from rayflow.policies.balancing import Outcome
from rayflow.policies.fallback import Target
from rayflow.policies.quarantine import Exposure, Quarantine
from rayflow.runtime.calls import Call
from rayflow.runtime.part import PartState
from rayflow.runtime.ports import Fabric


class Missed(Exception):
    """The replica was not there, or died over the call: the part itself has no error yet."""

    def __init__(self, error: WorkflowError, exposure: Exposure) -> None:
        super().__init__(error.message)
        self.error = error
        self.exposure = exposure


class Leg(NamedTuple):
    """One call of one replica. `sent` is told the replica; `hedge_s`: it is a second call, made after so long."""

    work: Work
    part: PartState
    target: Target
    until: float
    avoid: Collection[str]
    isolated: bool = False
    again: bool = False
    sent: asyncio.Future[str] | None = None
    hedge_s: float | None = None

    @property
    def hedged(self) -> bool:
        """Whether it may be one of two."""
        return self.sent is not None or self.hedge_s is not None


class Attempts:
    """`record` takes the events of a run."""

    def __init__(
        self,
        gates: Mapping[str, Gate],
        pools: Pools,
        quarantine: Quarantine,
        fabric: Fabric,
        record: Callable[[Work, Event], None],
        clock: Clock,
    ) -> None:
        self._gates = gates
        self._pools = pools
        self._quarantine = quarantine
        self._fabric = fabric
        self._record = record
        self._clock = clock

    async def attempt(
        self,
        work: Work,
        part: PartState,
        target: Target,
        until: float,
        avoid: Collection[str] = (),
        *,
        isolated: bool = False,
        again: bool = False,
    ) -> AgentReply:
        """Ask one replica of the target, by `until` on the monotonic clock; one of `avoid` only where no other has
        room.

        `isolated`: this call may have killed a replica, and works alone. `again`: the model was called for this part
        before. Raises `Missed`, what the replica raised, what the gate refuses with, and what `Pools.reserve` raises.
        """
        gate = self._gates[target.model]
        after_s = None if again or isolated or avoid or work.run.tokens_to(part) else gate.hedge_s()
        if after_s is None:
            return await self._leg(Leg(work, part, target, until, avoid, isolated, again))
        sent: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        first = Leg(work, part, target, until, avoid, sent=sent)

        def second() -> Coroutine[Any, Any, AgentReply] | None:
            if not gate.may_hedge():
                return None
            return self._leg(Leg(work, part, target, until, {sent.result()}, again=True, hedge_s=after_s))

        return await hedged(self._leg(first), sent, after_s, second, self._drop)

    async def _leg(self, leg: Leg) -> AgentReply:
        gate = self._gates[leg.target.model]
        permit = gate.enter(again=leg.again)
        try:
            reply = await self._placed(leg, gate, permit)
        except BaseException as error:
            self._note(leg.work, gate, gate.leave(permit, error))
            raise
        self._note(leg.work, gate, gate.leave(permit, None))
        return reply

    async def _placed(self, leg: Leg, gate: Gate, permit: Permit) -> AgentReply:
        work, part, run = leg.work, leg.part, leg.work.run
        wait_s = leg.until - self._clock.now() if leg.hedge_s is None else 0.0  # a second call waits for nobody
        place: Reservation | None = None
        try:
            async with self._pools.reserve(
                part.agent,
                wait_s,
                leg.avoid,
                key=work.request.session_id,
                level=work.level,
                tenant=work.request.tenant,
                tokens=max(work.tokens, 1),
            ) as place:
                return await self._at(place, leg, gate, permit)
        finally:
            if place is not None and place.ejected is not None:
                self._record(work, run.ejected(part, place.ejected, self._clock.wall_us()))

    async def _at(self, place: Reservation, leg: Leg, gate: Gate, permit: Permit) -> AgentReply:
        work, part, run = leg.work, leg.part, leg.work.run
        gate.begin(permit, place.waited_s)
        if leg.hedge_s is None:
            choice, now, wall_us = self._pools.choice(part.agent), self._clock.now(), self._clock.wall_us()
            self._record(work, run.part_started(part, place.replica, place.waited_s, now, wall_us, choice))
        elif place.replica in leg.avoid:
            raise Unavailable(f"no other replica of {part.agent} has room")
        else:
            facts = {"after_s": round(leg.hedge_s, 3)}
            event = run.event(
                "agent.hedged", self._clock.wall_us(), agent=part.agent, replica=place.replica, data=facts
            )
            self._record(work, event)
        if leg.sent is not None:
            leg.sent.set_result(place.replica)
        reply = await self._ask(leg, place, gate, permit)
        part.replica, part.called = place.replica, gate.entry
        return reply

    async def _ask(self, leg: Leg, place: Reservation, gate: Gate, permit: Permit) -> AgentReply:
        run_id, until = leg.work.request.run_id, leg.until
        call = Call(gate.entry, place.replica, leg.part.attempt, place.waited_s, permit.begun)
        if not leg.hedged:
            leg.part.called = gate.entry
        exposure = self._quarantine.enter(run_id, leg.part.agent, place.replica, leg.isolated)
        try:
            reply: AgentReply = await self._fabric.ask(place.replica, _call(leg), until - self._clock.now())
        except WorkflowError as error:
            if died(error) or gate.blames(permit, error):
                place.outcome = Outcome(False, self._clock.now() - permit.begun)
            if died(error):
                self._ended(leg, call, error)
                raise Missed(error, exposure) from None
            self._quarantine.left(exposure)
            if untouched(error):
                leg.part.called = None
                raise Missed(error, exposure) from None
            self._ended(leg, call, error)
            raise
        except BaseException:
            self._quarantine.left(exposure)
            if leg.hedged:  # else the end of the part says that it was cut
                self._ended(leg, call, None)
            raise
        self._quarantine.cleared(exposure)
        took_s = self._clock.now() - permit.begun
        first_token_s = reply.ttft_ms / 1000 if reply.ttft_ms is not None else None
        place.outcome = Outcome(True, took_s, first_token_s, reply.in_flight)
        return reply

    def _ended(self, leg: Leg, call: Call, error: WorkflowError | None) -> None:
        """A call ended that nobody else tells of."""
        used = error.details.pop("used", None) if error else None
        usage = Usage(used[0], used[1], estimated=True) if used else None
        now, wall_us = self._clock.now(), self._clock.wall_us()
        self._record(leg.work, leg.work.run.call_ended(leg.part, call, error, usage, now, wall_us))

    def _note(self, work: Work, gate: Gate, change: Change | None) -> None:
        if change is not None:
            kind, error, data = change
            event = work.run.event(kind, self._clock.wall_us(), model=gate.name, error=error, data=data)
            self._record(work, event)

    def _drop(self, error: BaseException) -> None:
        """Of a hedged call nobody asks again, so nobody judges who died over it."""
        if isinstance(error, Missed):
            self._quarantine.left(error.exposure)


def _call(leg: Leg) -> AgentCall:
    run, request = leg.work.run, leg.work.request
    start, step = leg.part.numbers = run.token_numbers(leg.part)
    return AgentCall(
        run_id=request.run_id,
        agent=leg.part.agent,
        messages=leg.work.contexts.get(leg.target.agent, leg.work.context),
        params=request.params,
        client=run.tokens_to(leg.part),
        seq_start=start,
        seq_step=step,
        attempt=run.attempt_number(leg.part),
        instructions=request.instructions,
        system_prompt=request.system_prompt,
        model="" if leg.target.own else leg.target.model,
        account=leg.work.account,
        followers=leg.work.followers.copy(),
    )
