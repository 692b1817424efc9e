"""Which actors a workflow needs: its configuration as child specs."""

from __future__ import annotations

from rayflow.config.schema import WorkflowConfig
from rayflow.policies.placement import shard_addresses
from rayflow.policies.restart import RestartPolicy
from rayflow.runtime.supervision.specs import ChildSpec, Group

COORDINATOR = "coordinator"
NODE = "node:"
"""Prefix of the address of a process itself, as against the actor in it: life-cycle messages go there."""

ROLES = frozenset({"eventlog", "session", "aggregator", "agent", "router"})
"""What children are. All others on the fabric (ingress, clients) come and go by themselves."""
STATELESS = frozenset({"aggregator", "agent", "router"})
"""Roles of which two may live at one address for a moment. The others are the only writer of their files."""

DEATHS = RestartPolicy().intensity


def node_address(address: str, epoch: int) -> str:
    """The process of one incarnation: during a handover there are two at one address."""
    return f"{NODE}{address}#{epoch}"


def agent_address(agent: str, replica: int) -> str:
    return f"agent/{agent}/{replica}"


def pool_prefix(agent: str) -> str:
    return f"agent/{agent}/"


def roster(config: WorkflowConfig, generation: int = 1) -> list[ChildSpec]:
    """In start order: what others write to comes first, what takes requests in comes last. Each pool is a group of its
    own, so that a crash loop of one parks nobody else. `generation`: number of this configuration."""
    pools = [("eventlog", "eventlog", ["eventlog/0"] if config.monitoring.event_log else [])]
    pools.append(("session", "session", shard_addresses(config.session.shards)))
    pools.append(("aggregator", "aggregator", ["aggregator/0"]))
    for agent in config.agents:
        replicas = [agent_address(agent.name, i) for i in range(agent.replicas.min)]
        pools.append((f"agent/{agent.name}", "agent", replicas))
    pools.append(("router", "router", [f"router/{i}" for i in range(config.processing.routers)]))
    return [
        ChildSpec(
            address,
            role,
            _group(name, role, len(addresses)),
            drain_s=config.processing.drain_s,
            handover=role in STATELESS,
            generation=generation,
        )
        for name, role, addresses in pools
        for address in addresses
    ]


def _group(name: str, role: str, size: int) -> Group:
    """A machine that dies takes a whole pool with it: that is one incident and not a crash loop, so each child beyond
    the first widens the window by one."""
    phase = ("eventlog", "session", "aggregator", "agent", "router").index(role)
    return Group(name, phase, policy=RestartPolicy(intensity=DEATHS + size - 1))
