"""From a supervisor to the record and back: `holders` writes down what `revive` makes a supervisor of again. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from rayflow.messages import Join
from rayflow.runtime.configurations import Configurations
from rayflow.runtime.ledger import Holder, Knowledge
from rayflow.runtime.roster import roster
from rayflow.runtime.supervision.child import Incarnation
from rayflow.runtime.supervision.instructions import Instruction
from rayflow.runtime.supervision.supervisor import Supervisor


def holders(supervisor: Supervisor, find: Callable[[str, int], Join | None]) -> list[Holder]:
    """Every incarnation there is. `find`: how its process joined, where it has."""
    return [
        Holder(
            address=address,
            epoch=incarnation.epoch,
            role=incarnation.spec.role,
            # What is to be adopted was ready, and counts as such until the opposite is certain.
            state="ready" if incarnation.state == "adopting" else incarnation.state,
            generation=incarnation.spec.generation,
            restarts=child.restarts,
            join=find(address, incarnation.epoch),
        )
        for address, child in supervisor.children.items()
        for incarnation in child.incarnations()
    ]


def revive(known: Knowledge, configs: Configurations, now: float) -> tuple[Supervisor, list[Instruction]]:
    """The supervisor that takes over from one that left this behind, and the first it wants done.

    Every child that is on record is expected to live; one that the configuration asks for and that is not on record is
    started.
    """
    specs = {
        number: {spec.address: spec for spec in roster(config, number)} for number, config in configs.parsed.items()
    }
    wanted = {**{h.address: specs[h.generation][h.address] for h in known.holders}, **specs[configs.target]}
    supervisor = Supervisor(sorted(wanted.values(), key=lambda spec: spec.group.phase), known.epochs)
    found: defaultdict[str, list[Holder]] = defaultdict(list)
    for holder in known.holders:
        found[holder.address].append(holder)
    todo: list[Instruction] = []
    for address, those in found.items():
        incarnations = [Incarnation(specs[h.generation][address], h.epoch, h.state, now) for h in those]
        todo += supervisor.adopt(address, incarnations, max(h.restarts for h in those), now)
    if known.stopping:
        todo += supervisor.shutdown(configs.current.processing.drain_s, now)
    return supervisor, [*todo, *supervisor.start(now)]
