"""The pools of agents while they are scaled: how many replicas each should have, and which of them are in the rotation.

A pool has as many children as its target says, and warm spares beside them: started and ready, and not in the
directory. Whoever is ready comes into the rotation until that is as large as the target; the others are the spares. So
a pool grows at once by putting a spare into the rotation, and starts the next spare afterwards, and a replica that dies
is replaced by a spare in the same moment.

There are never two decisions under way for a pool: there is a target, and `settle`, called after every event, does what
is missing between it and the children there are. It is pure, like the supervisor that it instructs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import count

from rayflow.config.schema import AgentConfig
from rayflow.messages import PoolStatus
from rayflow.runtime.configurations import Configurations
from rayflow.runtime.roster import agent_address, child_spec, pool_prefix
from rayflow.runtime.supervision.child import Child
from rayflow.runtime.supervision.instructions import Instruction
from rayflow.runtime.supervision.supervisor import Supervisor

DOWN = ("waiting", "parked", "absent", "stopping", "stopped")
"""States of a child that is not coming up."""


@dataclass(frozen=True, slots=True)
class Size:
    """One pool. `ready`: replicas in the rotation. `starting`: those that are on their way into it. `spares`: those
    that are ready beside it."""

    target: int
    ready: int
    starting: int
    spares: int


class Fleet:
    """`configs`: the limits are those of the present one. `targets`: by agent, where it is not the smallest allowed:
    such a pool follows a new `replicas.min`. `rotation`: addresses that were in it under an earlier coordinator."""

    def __init__(
        self, configs: Configurations, targets: Mapping[str, int] | None = None, rotation: Iterable[str] = ()
    ) -> None:
        self._configs = configs
        self._rotation = set(rotation)
        self.targets = dict(targets or {})

    @property
    def _agents(self) -> dict[str, AgentConfig]:
        return {agent.name: agent for agent in self._configs.current.agents} if self._configs.target else {}

    def target(self, agent: str) -> int:
        """How many replicas it should have; KeyError for an unknown one."""
        return self._within(self._agents[agent])

    def scale(self, agent: str, replicas: int) -> int:
        """Have so many, within the limits. Returns how many these are."""
        limits = self._agents[agent].replicas
        target = min(max(replicas, limits.min), limits.max)
        self.targets.pop(agent, None)
        if target != limits.min:
            self.targets[agent] = target
        return target

    # --- what is ---

    def serving(self, supervisor: Supervisor) -> dict[str, int]:
        """Address and epoch of who belongs into the directory."""
        return {a: c.epoch for a, c in supervisor.children.items() if c.serves and not self._spare(a, c)}

    def size(self, agent: str, supervisor: Supervisor) -> Size:
        pool, target = self._pool(agent, supervisor), self.target(agent)
        ready = sum(address in self._rotation for address, child in pool.items() if child.serves)
        coming = sum(not child.serves and child.state not in DOWN for child in pool.values())
        spares = sum(child.serves for child in pool.values()) - ready
        return Size(target, ready, max(0, min(target - ready, coming + spares)), spares)

    def spares(self, supervisor: Supervisor) -> list[str]:
        """Addresses of those who could serve and are not in the directory."""
        return [a for a, c in supervisor.children.items() if c.serves and self._spare(a, c)]

    def status(self, supervisor: Supervisor, strategies: Mapping[str, str]) -> list[PoolStatus]:
        sizes = {agent: self.size(agent, supervisor) for agent in self._agents}
        return [
            PoolStatus(agent, size.target, size.ready, size.starting, size.spares, strategies.get(agent, ""))
            for agent, size in sizes.items()
        ]

    def _spare(self, address: str, child: Child) -> bool:
        return child.spec.role == "agent" and address not in self._rotation and address.split("/")[1] in self._agents

    # --- what is to be ---

    def settle(self, supervisor: Supervisor, now: float, *, steady: bool) -> list[Instruction]:
        """Bring rotation and children nearer to the targets. `steady`: nobody else adds and removes children at the
        moment, and whoever there is has been found."""
        self._rotation &= {address for address, child in supervisor.children.items() if child.serves}
        done: list[Instruction] = []
        agents = self._agents
        for agent in agents.values():
            self._rotate_in(agent, supervisor)
            if steady and not supervisor.stopping:
                done += self._fill(agent, supervisor, now)
                done += self._shrink(agent, supervisor, now)
        if steady:
            self.targets = {name: target for name, target in self.targets.items() if name in agents}
        return done

    def pools(self, staying: Collection[str], leaving: Collection[str] = ()) -> dict[str, list[str]]:
        """Addresses that the pools should have by the present configuration: of those `staying` as many as it allows,
        and new ones, which are none of `leaving`, where they are too few."""
        found = {}
        for agent in self._agents.values():
            size = self._within(agent) + agent.replicas.spares
            have = sorted((a for a in staying if a.startswith(pool_prefix(agent.name))), key=self._last_to_go)[:size]
            new = _free(agent.name, {*have, *leaving}, size - len(have))
            found[agent.name] = sorted([*have, *new], key=_index)
        return found

    def _within(self, agent: AgentConfig) -> int:
        """Its target; the smallest where it was not scaled."""
        return min(max(self.targets.get(agent.name, 0), agent.replicas.min), agent.replicas.max)

    def _rotate_in(self, agent: AgentConfig, supervisor: Supervisor) -> None:
        pool = self._pool(agent.name, supervisor)
        rotation = [address for address in pool if address in self._rotation]
        ready = [address for address, child in pool.items() if child.serves and address not in self._rotation]
        self._rotation.update(sorted(ready, key=_index)[: max(0, self.target(agent.name) - len(rotation))])

    def _fill(self, agent: AgentConfig, supervisor: Supervisor, now: float) -> list[Instruction]:
        missing = self.target(agent.name) + agent.replicas.spares - len(self._pool(agent.name, supervisor))
        done: list[Instruction] = []
        for address in _free(agent.name, supervisor.children, missing):
            done += supervisor.add(child_spec(self._configs.current, address, self._configs.target), now)
        return done

    def _shrink(self, agent: AgentConfig, supervisor: Supervisor, now: float) -> list[Instruction]:
        """Whoever is not in the rotation goes first, then the highest number. What it works on it may finish, as long
        as a run may take: nobody is in a hurry. Of a rotation that is still too large the rest become spares."""
        pool, target = self._pool(agent.name, supervisor), self.target(agent.name)
        stay = sorted(pool, key=lambda a: (not pool[a].serves, pool[a].state in DOWN, *self._last_to_go(a)))
        done: list[Instruction] = []
        for address in reversed(stay[target + agent.replicas.spares :]):
            self._rotation.discard(address)
            done += supervisor.remove(address, now, self._configs.current.processing.request_timeout_s)
        for address in [address for address in stay if address in self._rotation][target:]:
            self._rotation.discard(address)
        return done

    def _last_to_go(self, address: str) -> tuple[bool, int]:
        return address not in self._rotation, _index(address)

    def _pool(self, agent: str, supervisor: Supervisor) -> dict[str, Child]:
        """Its children, but those that are on their way out."""
        prefix = pool_prefix(agent)
        return {a: c for a, c in supervisor.children.items() if a.startswith(prefix) and not c.removed}

    def validate(self, supervisor: Supervisor) -> None:
        """Invariants after `settle`, for tests: AssertionError where one does not hold."""
        for name, agent in self._agents.items():
            pool, target = self._pool(name, supervisor), self.target(name)
            assert agent.replicas.min <= target <= agent.replicas.max, (name, target)
            rotation = {address for address in pool if address in self._rotation}
            ready = {address for address, child in pool.items() if child.serves}
            assert rotation <= ready, (name, rotation, ready)
            assert len(rotation) == min(target, len(ready)), (name, target, rotation, ready)
            assert len(pool) == target + agent.replicas.spares, (name, target, pool.keys())


def _free(agent: str, taken: Collection[str], number: int) -> list[str]:
    """The lowest addresses that nobody has."""
    free = (address for i in count() if (address := agent_address(agent, i)) not in taken)
    return [next(free) for _ in range(number)]


def _index(address: str) -> int:
    return int(address.rpartition("/")[2])
