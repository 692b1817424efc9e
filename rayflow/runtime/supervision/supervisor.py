"""The supervisor: which children there should be, which there are, and what to do next. A pure state machine.

What happens comes in as events (`joined`, `ready`, `exited`, ...) with `now`; instructions (`Spawn`, `Stop`, `Kill`)
come out, and the coordinator actor carries them out. It follows Erlang/OTP's supervisor, with these differences:

- All processes are spawned at once, because booting is what takes time; the start order is kept by *admission*: a child
  that has joined may build itself (`starting`) only when every earlier phase is ready.
- It drains before it stops, in reverse order.
- Where OTP's supervisor gives up and dies itself, this one parks the child (and whoever shares its fate) and leaves all
  other groups alone. A parked child gets one more chance after a while.
- A child can be handed over to a new incarnation while the old one serves.

Every event ends in `_follow`: whatever it made possible happens there, for all children alike.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from rayflow.policies.restart import ExitReason, along, decide, wanted
from rayflow.runtime.supervision.child import Child, Incarnation
from rayflow.runtime.supervision.instructions import Instruction, Kill, Spawn, Stop
from rayflow.runtime.supervision.specs import ChildSpec, Group

BOOT_S = 60.0
"""A child that has not joined by then, or not become ready after it was admitted, counts as dead."""
ADOPT_S = 3.0
"""So long has a child of an earlier supervisor to show that it lives."""
HANG_S = 4.0
"""A ready child that has not been heard for so long hangs."""
KILL_GRACE_S = 2.0
"""After its shutdown budget, a child has so long until it is killed."""

SETTLED = frozenset({"ready", "parked", "done"})
"""States that nobody who starts later waits for."""


class Death(NamedTuple):
    at: float
    address: str


class Supervisor:
    """`epochs`: the highest epoch that each address has used; no epoch is ever used twice."""

    def __init__(self, specs: Iterable[ChildSpec] = (), epochs: Mapping[str, int] | None = None) -> None:
        self.children = {spec.address: Child(spec) for spec in specs}
        self.epochs = dict(epochs or {})
        self.stopping = False
        self._budget_s = 0.0
        self._deaths: dict[str, list[Death]] = {}
        """By group, in order."""
        self._gated = True

    # --- what is wanted ---

    def start(self, now: float) -> list[Instruction]:
        return self._follow(now)

    def add(self, spec: ChildSpec, now: float) -> list[Instruction]:
        self.children[spec.address] = Child(spec)
        return self._follow(now)

    def remove(self, address: str, now: float, budget_s: float | None = None) -> list[Instruction]:
        """Drain, stop, forget. `budget_s`: its shutdown budget, where that is not what its spec says."""
        child = self.children[address]
        if budget_s is not None:
            child.spec = replace(child.spec, drain_s=budget_s)
        child.fall("removed", now)
        return self._follow(now)

    def replace(self, spec: ChildSpec, now: float) -> list[Instruction]:
        """Have the child be what this spec says: by a handover where it serves and two of it may live side by side,
        else by a stop and a start. A child that is down gets a fresh start at once."""
        child = self.children[spec.address]
        child.detail = ""
        if child.state == "ready" and child.fate is None and spec.handover:
            child.successor = self._incarnate(spec, now)
            return [Spawn(spec, child.successor.epoch)]
        child.spec = spec
        child.probation = False
        child.fall("absent", now)
        return self._follow(now)

    def relabel(self, spec: ChildSpec) -> None:
        """The child is what this spec says already: its part of the configuration has not changed."""
        child = self.children[spec.address]
        child.spec = spec
        if child.current is not None:
            child.current.spec = spec
        if child.state == "ready":
            child.detail = ""

    def adopt(self, address: str, found: Sequence[Incarnation], restarts: int, now: float) -> list[Instruction]:
        """Take over what an earlier supervisor left. `found`: its incarnations of this child as they were recorded.

        The newest that was ready is the child, and has `ADOPT_S` to show that it lives; one that was still starting may
        take its time. What was handing over to it goes on leaving; what it was handing over to is ended.
        """
        child = self.children[address]
        current = max(found, key=lambda i: (i.state == "ready", i.epoch))
        child.spec, child.current, child.restarts = current.spec, current, restarts
        done: list[Instruction] = []
        for incarnation in found:
            incarnation.served = incarnation.state in ("ready", "stopping")
            if incarnation is not current:
                child.leaving.append(incarnation)
            if incarnation is not current or current.state == "stopping":
                done.append(self._end(incarnation, address, incarnation.spec.drain_s, now))
        if current.state == "stopping":
            child.fall("absent", now)
        else:
            current.to("adopting" if current.served else "booting", now)
        return done

    def shutdown(self, budget_s: float, now: float) -> list[Instruction]:
        """Stop everything, last phase first. From here on nothing is started."""
        self.stopping = True
        self._budget_s = budget_s
        kills: list[Instruction] = []
        for child in self.children.values():
            child.fate = None
            kills += self._dismiss_successor(child, now)
            for old in child.incarnations():
                if old.state == "stopping":
                    old.stop_by = min(old.stop_by, now + budget_s + KILL_GRACE_S)
            if child.current is None:
                child.rest = "stopped"
        return [*kills, *self._follow(now)]

    # --- what happens ---

    def joined(self, address: str, epoch: int, now: float) -> list[Instruction]:
        """A process listens, and asks what it should be. A late message of an older incarnation changes nothing."""
        incarnation = self.incarnation(address, epoch)
        if incarnation is None or incarnation.state not in ("adopting", "booting"):
            return []
        incarnation.to("joined", now)
        return self._follow(now)

    def ready(self, address: str, epoch: int, now: float) -> list[Instruction]:
        """An incarnation takes messages (it may have been told to by an earlier supervisor). A successor takes over,
        and the one before it leaves."""
        incarnation = self.incarnation(address, epoch)
        if incarnation is None or incarnation.state not in ("adopting", "booting", "starting"):
            return []
        child = self.children[address]
        incarnation.to("ready", now)
        child.detail = ""
        if incarnation is not child.successor:
            return self._follow(now)
        before = child.current
        child.spec, child.current, child.successor = incarnation.spec, incarnation, None
        if before is None:
            return self._follow(now)
        child.leaving.append(before)
        return [self._end(before, address, before.spec.drain_s, now), *self._follow(now)]

    def heard(self, address: str, epoch: int, now: float) -> list[Instruction]:
        """An incarnation answered a heartbeat. One to adopt that was ready before still is."""
        incarnation = self.incarnation(address, epoch)
        if incarnation is None:
            return []
        incarnation.heard = now
        return self.ready(address, epoch, now) if incarnation.state == "adopting" and incarnation.served else []

    def exited(
        self, address: str, epoch: int, reason: ExitReason, detail: str, now: float, rng: random.Random
    ) -> list[Instruction]:
        """A process has ended."""
        incarnation = self.incarnation(address, epoch)
        if incarnation is None:
            return []
        child = self.children[address]
        if incarnation in child.leaving:
            child.leaving.remove(incarnation)
        elif incarnation is child.successor:
            child.successor, child.detail = None, detail
        else:
            child.current, child.died = None, now
            if self.stopping:
                child.rest = "stopped"
            elif child.fate is not None:
                child.rest, child.fate = child.fate, None
            elif child.successor is not None:
                # The next one is on its way already.
                child.spec, child.current, child.successor = child.successor.spec, child.successor, None
            else:
                self._died(child, incarnation, reason, detail, now, rng)
        return self._follow(now)

    def lost(self, address: str, epoch: int, detail: str, now: float, rng: random.Random) -> list[Instruction]:
        """A process counts as dead: its connection broke, it hangs, it never came up. It may only have been cut off, so
        it is killed before another takes its place."""
        if self.incarnation(address, epoch) is None:
            return []
        return [Kill(address, epoch), *self.exited(address, epoch, "abnormal", detail, now, rng)]

    # --- time ---

    def overdue(self, now: float) -> list[tuple[str, int, str]]:
        """(address, epoch, why) of the incarnations that have kept us waiting for too long: they are lost."""
        return [
            (address, incarnation.epoch, why)
            for address, child in self.children.items()
            for incarnation in child.incarnations()
            if (why := _overdue(incarnation, now))
        ]

    def tick(self, now: float) -> list[Instruction]:
        """Start who is due; kill who has not stopped within its budget."""
        kills: list[Instruction] = []
        for address, child in self.children.items():
            for incarnation in child.incarnations():
                if incarnation.state == "stopping" and now >= incarnation.stop_by:
                    incarnation.stop_by = now + KILL_GRACE_S
                    kills.append(Kill(address, incarnation.epoch))
        return [*kills, *self._follow(now)]

    def due(self) -> float | None:
        """When the next child is to be started; None while none waits."""
        waiting = [child for child in self.children.values() if child.state in ("waiting", "parked")]
        return min((child.due for child in waiting if not self._held(child.spec.group)), default=None)

    def excuse(self, now: float) -> None:
        """We ourselves were away (stopped, starved), so nobody's silence means anything: begin to listen anew."""
        for child in self.children.values():
            for incarnation in child.incarnations():
                incarnation.heard = max(incarnation.heard, now)
                if incarnation.state == "adopting":
                    incarnation.since = now

    # --- what is known ---

    def incarnation(self, address: str, epoch: int) -> Incarnation | None:
        child = self.children.get(address)
        return next((i for i in child.incarnations() if i.epoch == epoch), None) if child is not None else None

    @property
    def all_ready(self) -> bool:
        return all(child.state in ("ready", "done") for child in self.children.values() if not child.removed)

    @property
    def only_growing(self) -> bool:
        """Whether those who are not ready have simply not come up yet, in a system that has been up."""
        return not self._gated and all(
            child.state in ("ready", "done", "booting", "joined", "starting") and not child.restarts
            for child in self.children.values()
            if not child.removed and child.state not in ("ready", "done")
        )

    @property
    def all_stopped(self) -> bool:
        return self.stopping and not any(any(child.incarnations()) for child in self.children.values())

    @property
    def adopting(self) -> bool:
        return any(child.state == "adopting" for child in self.children.values())

    # --- a death ---

    def _died(
        self, child: Child, dead: Incarnation, reason: ExitReason, detail: str, now: float, rng: random.Random
    ) -> None:
        """Nobody wanted this. Decide what becomes of the child, and of all who share its fate."""
        child.detail = detail
        if not wanted(child.spec.restart, reason):
            child.rest = "done"
            return
        policy = child.spec.group.policy
        delay_s = self._verdict(child, dead, now, rng)
        parked = delay_s is None
        due = now + (policy.retry_after_s if delay_s is None else delay_s)
        for sibling in along(child.spec.group.strategy, self._siblings(child.spec.group), child):
            if sibling is not child and sibling.spec.restart == "temporary":
                sibling.fall("done", due)
            elif not sibling.removed:
                sibling.fall("parked" if parked else "waiting", due)

    def _verdict(self, child: Child, dead: Incarnation, now: float, rng: random.Random) -> float | None:
        """Seconds until the restart, or None to park. The deaths of a group are counted together."""
        policy = child.spec.group.policy.of(len(self._siblings(child.spec.group)))
        deaths = self._deaths.setdefault(child.spec.group.name, [])
        deaths.append(Death(now, child.spec.address))
        while deaths[0].at < now - policy.period_s:
            deaths.pop(0)
        proven = dead.state == "ready" and now - dead.since > policy.period_s
        child.probation = child.probation and not proven
        if child.probation:
            return None
        own = [death.at for death in deaths if death.address == child.spec.address]
        return decide([death.at for death in deaths], policy, now, rng, own)

    # --- what follows ---

    def _follow(self, now: float) -> list[Instruction]:
        if self.stopping:
            return self._stop_phase(now)
        for address in [a for a, c in self.children.items() if c.rest == "removed" and not any(c.incarnations())]:
            del self.children[address]
        instructions = [*self._stop_doomed(now), *self._start_due(now)]
        self._admit(now)
        return instructions

    def _stop_doomed(self, now: float) -> list[Instruction]:
        """Those who are to be no more end: dependants one after another, the last started first."""
        done: list[Instruction] = []
        for group in {child.spec.group.name: child.spec.group for child in self.children.values()}.values():
            doomed = [child for child in self._siblings(group) if child.fate is not None]
            for child in doomed if group.strategy == "one_for_one" else doomed[-1:]:
                done += self._stop(child, child.spec.drain_s, now)
        return done

    def _start_due(self, now: float) -> list[Instruction]:
        """A child that is absent starts at once, one that waits for its restart or is parked when its time has come."""
        due = [
            child
            for child in self.children.values()
            if child.state == "absent" or (child.state in ("waiting", "parked") and child.due <= now)
        ]
        return [self._spawn(child, now) for child in due if not self._held(child.spec.group)]

    def _held(self, group: Group) -> bool:
        """Among dependants nobody starts while another one still has to stop."""
        return group.strategy != "one_for_one" and any(child.fate is not None for child in self._siblings(group))

    def _admit(self, now: float) -> None:
        """Everyone who has joined and whose earlier phases are ready may go on. Once the whole system has been up, the
        phases no longer matter: a pool that heals does not wait for another. A dependant always waits for the ones
        before it."""
        pending = [c.spec.group.phase for c in self.children.values() if c.state not in SETTLED]
        self._gated = self._gated and bool(pending)
        for child in self.children.values():
            if child.successor is not None and child.successor.state == "joined":
                child.successor.to("starting", now)
            gated = self._gated and child.spec.group.phase > min(pending)
            if child.current is not None and child.state == "joined" and not gated and self._earlier_ready(child):
                child.current.to("starting", now)

    def _earlier_ready(self, child: Child) -> bool:
        group = child.spec.group
        siblings = self._siblings(group)
        return group.strategy == "one_for_one" or all(
            earlier.state in SETTLED for earlier in siblings[: siblings.index(child)]
        )

    def _stop_phase(self, now: float) -> list[Instruction]:
        """The highest phase that still runs; the ones before it wait until it is down."""
        up = [child for child in self.children.values() if any(child.incarnations())]
        highest = max((child.spec.group.phase for child in up), default=0)
        return [
            instruction
            for child in up
            if child.spec.group.phase == highest
            for instruction in self._stop(child, self._budget_s, now)
        ]

    # --- one child ---

    def _spawn(self, child: Child, now: float) -> Spawn:
        child.current = self._incarnate(child.spec, now)
        if child.rest == "absent":
            return Spawn(child.spec, child.current.epoch)
        child.probation = child.probation or child.rest == "parked"
        child.restarts += 1
        return Spawn(child.spec, child.current.epoch, child.restarts, now - child.died)

    def _incarnate(self, spec: ChildSpec, now: float) -> Incarnation:
        epoch = self.epochs[spec.address] = self.epochs.get(spec.address, 0) + 1
        return Incarnation(spec, epoch, "booting", now)

    def _stop(self, child: Child, budget_s: float, now: float) -> list[Instruction]:
        """The child ends, once; with it goes a successor that it will not need."""
        done = self._dismiss_successor(child, now)
        if child.current is not None and child.state != "stopping":
            done.append(self._end(child.current, child.spec.address, budget_s, now))
        return done

    def _dismiss_successor(self, child: Child, now: float) -> list[Instruction]:
        successor, child.successor = child.successor, None
        if successor is None:
            return []
        child.leaving.append(successor)
        return [self._end(successor, child.spec.address, 0.0, now)]

    def _end(self, incarnation: Incarnation, address: str, budget_s: float, now: float) -> Instruction:
        """One that has served finishes what it has in flight; one that has not has nothing to finish."""
        incarnation.to("stopping", now)
        incarnation.stop_by = now + budget_s + KILL_GRACE_S
        return Stop(address, incarnation.epoch, budget_s) if incarnation.served else Kill(address, incarnation.epoch)

    def _siblings(self, group: Group) -> list[Child]:
        return [child for child in self.children.values() if child.spec.group.name == group.name]

    def validate(self) -> None:
        """Invariants, for tests: AssertionError where one does not hold."""
        for address, child in self.children.items():
            epochs = [i.epoch for i in child.incarnations()]
            assert len(set(epochs)) == len(epochs), (address, epochs)
            assert all(epoch <= self.epochs[address] for epoch in epochs), (address, epochs)
            if child.current is not None:
                assert all(old.epoch < child.current.epoch or not old.served for old in child.leaving), address
            assert all(old.state == "stopping" for old in child.leaving), address
            assert child.fate is None or child.current is not None, f"{address} is down, and its fate still open"
            assert child.successor is None or child.state == "ready", f"{address} hands over what it does not hold"
        for deaths in self._deaths.values():
            assert [death.at for death in deaths] == sorted(death.at for death in deaths), deaths


def _overdue(incarnation: Incarnation, now: float) -> str:
    match incarnation.state:
        case "booting" | "starting" if now - incarnation.since > BOOT_S:
            return f"not up within {BOOT_S:g} s"
        case "adopting" if now - incarnation.since > ADOPT_S:
            return "died while the coordinator was away"
        case "ready" if now - incarnation.heard > HANG_S:
            return f"no sign of life for {HANG_S:g} s"
    return ""
