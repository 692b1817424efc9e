"""Asking one agent with one model until it answers or there is no point in going on: the loop of all retries.

A question that nobody has begun to work on (its replica is gone, or draining) is asked elsewhere at once. When a
replica dies over a part, the part is asked again of another one if that is safe: nothing of it has reached the client,
the run has time left, and the retry budget allows it. What kills replicas is quarantined (`policies.quarantine`). When
the model fails, its call is repeated by the model's own strategy and out of its own budget, and not while its breaker
is open. Replicas never retry by themselves: attempts multiply where two loops are nested, and only here is known what
the others have met.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import nullcontext

from rayflow.actors.attempts import Attempts, Missed
from rayflow.actors.delivery import delivered
from rayflow.actors.gates import Gate, budget
from rayflow.actors.persistence import PATIENCE_S, PAUSE_S, died
from rayflow.actors.work import Work
from rayflow.clock import Clock
from rayflow.config.schema import Retries, WorkflowConfig
from rayflow.errors import ModelError, PoisonMessage, WorkflowError
from rayflow.events import Event
from rayflow.messages import AgentReply
from rayflow.messages.runs import PART_ATTEMPTS
from rayflow.policies.fallback import Target
from rayflow.policies.quarantine import ONE_INCIDENT_S, Quarantine, Sentence
from rayflow.policies.retry import pause_s, safe_to_repeat
from rayflow.runtime.part import PartState
from rayflow.runtime.ports import Fabric

OPEN = nullcontext()
AFTER_DEATH = Retries()


class Trials:
    """`record` takes the events of a run."""

    def __init__(
        self,
        config: WorkflowConfig,
        gates: Mapping[str, Gate],
        attempts: Attempts,
        quarantine: Quarantine,
        fabric: Fabric,
        record: Callable[[Work, Event], None],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._gates = gates
        self._attempts = attempts
        self._quarantine = quarantine
        self._fabric = fabric
        self._record = record
        self._clock = clock
        self._rng = rng
        self._budgets = {agent.name: budget(config) for agent in config.agents}
        self._lanes = {agent.name: asyncio.Lock() for agent in config.agents}
        """Of several suspects of an agent, one at a time is at work."""

    async def answer(self, work: Work, part: PartState, target: Target, until: float, *, last: bool) -> AgentReply:
        """The target's answer, by `until` on the monotonic clock. `last`: nobody else will be asked.

        Raises what the replica raised, `PeerLost` where it died and the part cannot be asked again, `PoisonMessage`
        where the message is the cause, and what `Attempts.attempt` raises.
        """
        gate = self._gates[target.model]
        self._budgets[part.agent].request(self._clock.now())
        patience = self._clock.now() + PATIENCE_S
        avoid: set[str] = set()
        isolated = again = False
        calls = 0
        while True:
            try:
                async with self._lanes[part.agent] if isolated else OPEN:
                    return await self._attempts.attempt(
                        work, part, target, until, avoid, isolated=isolated, again=again
                    )
            except ModelError as error:
                calls += 1
                wait_s = gate.wait_s(error, calls, until - self._clock.now(), last=last)
                if wait_s is None or part.attempt >= PART_ATTEMPTS:
                    raise
                again = True
                await self._pause(work, part, wait_s, error, isolated)
            except Missed as miss:
                if died(miss.error):
                    again = True
                    isolated = await self._after_death(work, part, miss, until)
                    patience = self._clock.now() + PATIENCE_S
                elif self._clock.now() >= patience:
                    raise miss.error from None
                elif part.replica in avoid:
                    await asyncio.sleep(PAUSE_S)  # there is no other
            avoid.add(part.replica)

    async def _after_death(self, work: Work, part: PartState, miss: Missed, until: float) -> bool:
        """Wait until the part may be asked again; whether it must be the only suspect then.

        Raises the error of the miss where it may not, `PoisonMessage` where it never may.
        """
        verdict = self._quarantine.died(miss.exposure, self._clock.now())
        if verdict == "quarantine":
            poisonous = poison(work.request.run_id, Sentence(part.agent, miss.exposure.deaths))
            self._record(work, work.run.quarantined(part, poisonous, self._clock.wall_us()))
            raise poisonous from None
        delay_s = pause_s(part.attempt, AFTER_DEATH, self._rng)
        if verdict == "isolate":
            delay_s += ONE_INCIDENT_S  # whatever else goes down with this replica is down then
        left_s = until - self._clock.now()
        if (
            not safe_to_repeat(await delivered(self._fabric, work, part, left_s))
            or delay_s >= until - self._clock.now()
            or not self._budgets[part.agent].retry(self._clock.now())
        ):
            raise miss.error from None
        await self._pause(work, part, delay_s, miss.error, isolated=verdict == "isolate")
        return verdict == "isolate"

    async def _pause(self, work: Work, part: PartState, wait_s: float, error: WorkflowError, isolated: bool) -> None:
        self._record(work, work.run.part_retried(part, error, wait_s, isolated, self._clock.wall_us()))
        await asyncio.sleep(wait_s)


def poison(run_id: str, sentence: Sentence) -> PoisonMessage:
    """Why a run in quarantine is refused."""
    return PoisonMessage(
        f"this message ended {len(sentence.replicas)} processes that worked on it and will not be tried again;"
        " change it, or look for the cause in the logs of these replicas",
        run_id=run_id,
        agent=sentence.agent,
        replicas=list(sentence.replicas),
    )
