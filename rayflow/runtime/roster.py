"""Which actors a workflow needs: its configuration as child specs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rayflow.config.schema import AgentConfig, WorkflowConfig
from rayflow.policies.placement import router_addresses, shard_addresses
from rayflow.policies.restart import RestartPolicy
from rayflow.runtime.limits import needs_accounts
from rayflow.runtime.supervision.specs import ChildSpec, Group

COORDINATOR = "coordinator"
NODE = "node:"
"""Prefix of the address of a process itself, as against the actor in it: life-cycle messages go there."""

FEEDER = "feeder"
"""Role of those who run rows of batch jobs: they are there while a job asks for them, and no part of the roster."""

START_ORDER = ("eventlog", "session", "accounts", "aggregator", "agent", "router", FEEDER)
ROLES = frozenset(START_ORDER)
"""What children are. All others on the fabric (ingress, clients) come and go by themselves."""
STATELESS = frozenset({"aggregator", "agent", "router"})
"""Roles of which two may live at one address for a moment. The others are the only writer of their files."""

POLICY = RestartPolicy(per_sibling=1)
"""A machine that dies takes a whole pool with it: that is one incident and not a crash loop."""


def node_address(address: str, epoch: int) -> str:
    """The process of one incarnation: during a handover there are two at one address."""
    return f"{NODE}{address}#{epoch}"


def agent_address(agent: str, replica: int) -> str:
    return f"agent/{agent}/{replica}"


def pool_prefix(agent: str) -> str:
    return f"agent/{agent}/"


def feeder_address(number: int) -> str:
    return f"{FEEDER}/{number}"


def roster(
    config: WorkflowConfig, generation: int = 1, pools: Mapping[str, Sequence[str]] | None = None
) -> list[ChildSpec]:
    """In start order: what others write to comes first, what takes requests in comes last. `generation`: number of this
    configuration. `pools`: addresses of the replicas of agents that have been scaled."""
    addresses = [
        *(["eventlog/0"] if config.monitoring.event_log else []),
        *shard_addresses(config.session.shards),
        *(["accounts/0"] if needs_accounts(config) else []),
        "aggregator/0",
        *(address for agent in config.agents for address in (pools or {}).get(agent.name, _smallest(agent))),
        *router_addresses(config.processing.routers),
    ]
    return [child_spec(config, address, generation) for address in addresses]


def _smallest(agent: AgentConfig) -> list[str]:
    """Addresses of the replicas that an agent has at least, spares included."""
    return [agent_address(agent.name, i) for i in range(agent.replicas.min + agent.replicas.spares)]


def child_spec(config: WorkflowConfig, address: str, generation: int) -> ChildSpec:
    """The child at an address, such as `router/0` or `agent/NAME/3`. Each pool is a group of its own, so that a crash
    loop of one parks nobody else."""
    role, name = address.partition("/")[0], address.rpartition("/")[0]
    return ChildSpec(
        address,
        role,
        Group(name, START_ORDER.index(role), policy=POLICY),
        drain_s=config.processing.drain_s,
        handover=role in STATELESS,
        generation=generation,
    )
