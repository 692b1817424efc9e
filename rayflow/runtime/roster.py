"""Which actors a workflow needs: its configuration as child specs."""

from __future__ import annotations

from rayflow.config.schema import WorkflowConfig
from rayflow.policies.placement import shard_addresses
from rayflow.runtime.supervisor import ChildSpec

COORDINATOR = "coordinator"
NODE = "node:"
"""Prefix of the address of a process itself, as against the actor in it: life-cycle messages go there."""


def agent_address(agent: str, replica: int) -> str:
    return f"agent/{agent}/{replica}"


def pool_prefix(agent: str) -> str:
    return f"agent/{agent}/"


def roster(config: WorkflowConfig) -> list[ChildSpec]:
    """In start order: what others write to comes first, what takes requests in comes last."""
    specs = [ChildSpec("eventlog/0", "eventlog", 0)] if config.monitoring.event_log else []
    specs += [ChildSpec(address, "session", 1) for address in shard_addresses(config.session.shards)]
    specs.append(ChildSpec("aggregator/0", "aggregator", 2))
    specs += [
        ChildSpec(agent_address(agent.name, i), "agent", 3)
        for agent in config.agents
        for i in range(agent.replicas.min)
    ]
    specs += [ChildSpec(f"router/{i}", "router", 4) for i in range(config.processing.routers)]
    return specs
