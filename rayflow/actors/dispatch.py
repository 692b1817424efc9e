"""Asking agents for the parts of runs, and whom to ask when that fails.

A part goes to its agent with the agent's own model. Where that fails for good, the agent's fallback models follow, then
its fallback agent with its models, and at last a fixed message, if there is one (`policies.fallback`). No step is taken
after something of the answer has reached the client, nor without time for it. Each step is an event, and the part says
who answered in the end.

What happens within one step is the matter of three others: `Trials` repeats, `Attempts` asks one replica, a `Gate`
knows one model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from rayflow.actors.attempts import Attempts
from rayflow.actors.delivery import delivered
from rayflow.actors.gates import Gate
from rayflow.actors.pools import Pools
from rayflow.actors.trials import Trials, poison
from rayflow.actors.work import Work
from rayflow.chat import Usage
from rayflow.clock import Clock, remaining_s
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import NotFound, WorkflowError
from rayflow.events import Event
from rayflow.messages import AgentReply, Sample
from rayflow.messages.runs import PART_ATTEMPTS
from rayflow.messages.scaling import PoolDemand
from rayflow.policies.capture import NOTHING, Capture
from rayflow.policies.fallback import Target, chain, leads_to
from rayflow.policies.quarantine import Quarantine
from rayflow.policies.retry import safe_to_repeat
from rayflow.runtime.part import PartState
from rayflow.runtime.ports import Fabric

MOST_TOOLS = 32
"""Of one answer's calls of tools, so many are events."""
STATES = ("closed", "half-open", "open")
"""Of a gate, as numbers."""
LEAST_S = 0.05
"""A step with less time than this is not begun: it could only end in a timeout."""


class Dispatch:
    """`record` takes the events of a run, `capture` says what of an answer they may hold; None: nothing."""

    def __init__(
        self,
        config: WorkflowConfig,
        fabric: Fabric,
        record: Callable[[Work, Event], None],
        clock: Clock,
        rng: random.Random,
        capture: Capture | None = None,
    ) -> None:
        self._capture = capture
        self._limit_s = config.processing.request_timeout_s
        self._step_limits = {agent.name: agent.timeout_s for agent in config.agents}
        self._chains = {agent.name: chain(config.agents, agent.name) for agent in config.agents}
        self._degraded_message = config.resilience.degraded_message
        self._fabric = fabric
        self._record = record
        self._clock = clock
        self._pools = Pools(config, fabric, clock, rng)
        self._quarantine = Quarantine()
        models = {target.model for targets in self._chains.values() for target in targets}
        self._gates = gates = {name: Gate(config.model(name), config, clock, rng) for name in models}
        attempts = Attempts(gates, self._pools, self._quarantine, fabric, record, clock)
        self._trials = Trials(config, gates, attempts, self._quarantine, fabric, record, clock, rng)

    def watch(self) -> None:
        self._pools.watch()

    def demand(self) -> list[PoolDemand]:
        """What this router asks of the agents' pools."""
        return self._pools.demand()

    def samples(self) -> list[Sample]:
        """Figures of pools and gates."""
        gates = self._gates.values()
        states = [Sample("rayflow_breaker_state", [gate.name], STATES.index(gate.state)) for gate in gates]
        return [*self._pools.samples(), *states]

    def least_loaded(self, agents: Sequence[str]) -> str:
        """The agent whose pool has the most room."""
        return self._pools.least_loaded(agents)

    def admit(self, run_id: str) -> None:
        """Raises `PoisonMessage` for a run in quarantine."""
        if sentence := self._quarantine.guilty(run_id):
            raise poison(run_id, sentence)

    async def ask(self, work: Work, part: PartState) -> AgentReply:
        """The answer to one part of a run, from whoever is there to give it.

        Raises what the last one asked raised: `ModelError`, `CircuitOpen`, `PeerLost`, `PoisonMessage`, what
        `Pools.reserve` raises.
        """
        run = work.run
        try:
            reply = await self._answer(work, part)
        except Exception as error:
            self._record(work, run.part_failed(part, error, self._clock.now(), self._clock.wall_us()))
            raise
        self._finished(work, part, reply)
        return reply

    def _finished(self, work: Work, part: PartState, reply: AgentReply) -> None:
        run, wall_us, kept = work.run, self._clock.wall_us(), self._capture
        content, notes = NOTHING if kept is None or len(run.parts) == 1 else kept.text(reply.text)
        self._record(work, run.part_finished(part, reply, wall_us, content, notes))
        for call in reply.tool_calls[:MOST_TOOLS]:
            arguments = NOTHING if kept is None else kept.text(call.function.arguments)
            self._record(work, run.tool_called(part, call, reply.model, wall_us, *arguments))

    async def _answer(self, work: Work, part: PartState) -> AgentReply:
        targets = self._chains.get(part.agent, ())
        if not targets:
            raise NotFound(f"there is no agent {part.agent!r}", kind="agent", id=part.agent)
        begun = self._clock.now()
        ends = begun + remaining_s(begun, self._limit_s)
        until = self._step_ends(part.agent, ends)
        while True:
            try:
                return await self._trials.answer(work, part, targets[0], until, last=len(targets) == 1)
            except WorkflowError as error:
                targets = self._after(error, work, part, targets[1:], until)
                degraded = not targets and self._degrades(work, error)
                if not (targets or degraded) or not await self._untold(work, part, ends):
                    raise
                if degraded:
                    self._record(work, work.run.part_degraded(part, error, self._clock.wall_us()))
                    took_ms = (self._clock.now() - begun) * 1000
                    return AgentReply(self._degraded_message, "stop", Usage(), "", took_ms)
                if targets[0].agent != part.agent:
                    until = self._step_ends(targets[0].agent, ends)
                self._record(work, work.run.part_moved(part, *targets[0][:2], error, self._clock.wall_us()))

    def _after(
        self, error: WorkflowError, work: Work, part: PartState, targets: tuple[Target, ...], until: float
    ) -> tuple[Target, ...]:
        """Those of `targets` that may still be asked. An agent that has a part of this run already will answer that."""
        scope = leads_to(error)
        if scope is None or part.attempt >= PART_ATTEMPTS:
            return ()
        same = scope == "model" and until - self._clock.now() >= LEAST_S
        busy = {other.agent for other in work.run.parts}
        return tuple(t for t in targets if (same if t.agent == part.agent else t.agent not in busy))

    def _degrades(self, work: Work, error: WorkflowError) -> bool:
        """Of several parts one that fails is left out; the message is for a run that would have no answer at all."""
        return bool(self._degraded_message) and leads_to(error) is not None and len(work.run.parts) == 1

    async def _untold(self, work: Work, part: PartState, ends: float) -> bool:
        """Whether there is time for another step, and nothing of the last one has reached the client."""
        left_s = ends - self._clock.now()
        return left_s >= LEAST_S and safe_to_repeat(await delivered(self._fabric, work, part, left_s))

    def _step_ends(self, agent: str, ends: float) -> float:
        limit_s = self._step_limits[agent]
        return ends if limit_s is None else min(ends, self._clock.now() + limit_s)
