"""From a supervisor to the record and back: `holders` writes down what `revive` makes a supervisor of again. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from rayflow.messages import Join
from rayflow.runtime.configurations import Configurations
from rayflow.runtime.ledger import Holder, Knowledge
from rayflow.runtime.roster import child_spec, roster
from rayflow.runtime.supervision.child import Incarnation
from rayflow.runtime.supervision.fleet import Fleet
from rayflow.runtime.supervision.instructions import Instruction
from rayflow.runtime.supervision.specs import ChildSpec
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


def revive(known: Knowledge, configs: Configurations, now: float) -> tuple[Supervisor, Fleet, list[Instruction]]:
    """The supervisor and the pools that take over from those that left this behind, and the first they want done.

    Every child that is on record is expected to live; one that the configuration asks for and that is not on record is
    started.
    """
    staying = {holder.address for holder in known.holders if holder.state != "stopping"}
    fleet = Fleet(configs, known.sizes, staying.difference(known.spares))

    def spec(holder: Holder) -> ChildSpec:
        return child_spec(configs.parsed[holder.generation], holder.address, holder.generation)

    wanted = {holder.address: spec(holder) for holder in known.holders}
    pools = fleet.pools(staying, wanted)
    wanted.update({each.address: each for each in roster(configs.current, configs.target, pools)})
    supervisor = Supervisor(sorted(wanted.values(), key=lambda each: each.group.phase), known.epochs)
    found: defaultdict[str, list[Holder]] = defaultdict(list)
    for holder in known.holders:
        found[holder.address].append(holder)
    todo: list[Instruction] = []
    for address, those in found.items():
        incarnations = [Incarnation(spec(holder), holder.epoch, holder.state, now) for holder in those]
        todo += supervisor.adopt(address, incarnations, max(h.restarts for h in those), now)
    if known.stopping:
        todo += supervisor.shutdown(configs.current.processing.drain_s, now)
    return supervisor, fleet, [*todo, *supervisor.start(now)]
