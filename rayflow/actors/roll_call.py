"""How every actor is: the coordinator's answer to `GetStatus`."""

from __future__ import annotations

import os
from collections.abc import Mapping

from rayflow import __version__
from rayflow.actors.chronicle import Chronicle
from rayflow.actors.membership import Membership
from rayflow.messages import ActorStatus, Status
from rayflow.runtime.roster import COORDINATOR
from rayflow.runtime.supervision.child import Child
from rayflow.runtime.supervision.fleet import Fleet
from rayflow.runtime.supervision.supervisor import Supervisor


def status(
    workflow: str,
    supervisor: Supervisor,
    membership: Membership,
    chronicle: Chronicle,
    fleet: Fleet,
    strategies: Mapping[str, str],
    now: float,
    *,
    rolling: bool,
) -> Status:
    """`strategies`: how pools are scaled, by agent. `rolling`: whether a reconfiguration is under way. A pool that
    grows or shrinks is no fault."""
    if supervisor.stopping:
        state = "stopping"
    elif supervisor.adopting:
        state = "adopting"
    elif rolling:
        state = "reconfiguring"
    else:
        state = "ready" if supervisor.all_ready or supervisor.only_growing else "degraded"
    own = ActorStatus(COORDINATOR, "coordinator", "ready", os.getpid(), uptime_s=round(chronicle.age_s, 1))
    spares = fleet.spares(supervisor)
    children = [_child(a, child, membership, now, spare=a in spares) for a, child in supervisor.children.items()]
    guests = [
        ActorStatus(g.entry.address, g.role, "ready", g.pid, epoch=g.entry.epoch, node=g.entry.node)
        for g in membership.guests
    ]
    pools = fleet.status(supervisor, strategies)
    return Status(workflow, __version__, state, [own, *children, *guests], chronicle.timeline, pools)


def _child(address: str, child: Child, membership: Membership, now: float, *, spare: bool) -> ActorStatus:
    join = membership.find(address, child.epoch)
    return ActorStatus(
        address,
        child.spec.role,
        child.state,
        pid=join.pid if join else 0,
        restarts=child.restarts,
        uptime_s=round(now - child.current.since, 1) if child.current and child.state == "ready" else 0.0,
        detail=_detail(child, now) or ("spare" if spare else ""),
        epoch=child.epoch,
        node=join.entry.node if join else "",
    )


def _detail(child: Child, now: float) -> str:
    if child.state == "parked":
        return f"{child.detail}; tried again in {max(0.0, child.due - now):.0f} s"
    if child.successor is not None:
        return f"hands over to incarnation {child.successor.epoch}"
    return child.detail
