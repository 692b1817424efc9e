"""What a scenario comes to, with its workflow file: every section that the simulator needs, complete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rayflow.config.load import load
from rayflow.config.schema import (
    AdmissionConfig,
    AgentConfig,
    BalancingConfig,
    BreakerConfig,
    PriorityConfig,
    Replicas,
    ScalingConfig,
    TenantConfig,
    WorkflowConfig,
)
from rayflow.errors import ConfigurationError
from rayflow.simulation.arrivals import Arrival
from rayflow.simulation.distributions import mean_of
from rayflow.simulation.scenario import Scenario

DURATION_S = 600.0
MAX_QUEUE = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """`duration_s`: requests come until then."""

    scenario: Scenario
    duration_s: float
    max_queue: int
    replicas: Replicas
    balancing: BalancingConfig
    scaling: ScalingConfig
    admission: AdmissionConfig
    priority: PriorityConfig
    tenants: Sequence[TenantConfig]
    breaker: BreakerConfig

    @property
    def work_s(self) -> float:
        """Mean time that a call takes on a healthy replica of its own; a trace's tokens left aside."""
        service, kinds = self.scenario.service, self.scenario.traffic
        tokens = [
            kind.share
            * (
                mean_of(kind.input_tokens) * mean_of(service.per_input_token_s)
                + mean_of(kind.output_tokens) * mean_of(service.per_output_token_s)
            )
            for kind in kinds
        ]
        return mean_of(service.first_token_s) + sum(tokens) / sum(kind.share for kind in kinds)

    @property
    def places(self) -> float:
        """Calls that one replica works on at full speed."""
        service, most = self.scenario.service, self.replicas.max_in_flight
        return min(most, {"io": most, "shared": service.cores, "slots": service.slots}[service.model])


def plan(scenario: Scenario, recorded: Sequence[Arrival] = ()) -> Plan:
    """Raises `ConfigurationError` where the workflow file is wrong or does not have the agent."""
    workflow = load(scenario.workflow) if scenario.workflow is not None else None
    agent = _agent(workflow, scenario) if workflow is not None else None
    duration_s = scenario.duration_s
    if duration_s is None and recorded:
        last = max(arrival.at_s for arrival in recorded)
        duration_s = last / scenario.arrivals.speed + scenario.arrivals.spread_s + 1e-3
    queue = workflow.processing.max_queue if workflow else MAX_QUEUE
    return Plan(
        scenario=scenario,
        duration_s=duration_s or DURATION_S,
        max_queue=queue if scenario.max_queue is None else scenario.max_queue,
        replicas=scenario.replicas or (agent.replicas if agent else Replicas()),
        balancing=scenario.balancing
        or (agent and agent.balancing)
        or (workflow.balancing if workflow else BalancingConfig()),
        scaling=scenario.scaling or (agent and agent.scaling) or (workflow.scaling if workflow else ScalingConfig()),
        admission=scenario.admission or (workflow.admission if workflow else AdmissionConfig()),
        priority=scenario.priority or (workflow.priority if workflow else PriorityConfig()),
        tenants=scenario.tenants if scenario.tenants is not None else (workflow.tenants if workflow else []),
        breaker=scenario.breaker or (workflow.resilience.breaker if workflow else BreakerConfig()),
    )


def _agent(workflow: WorkflowConfig, scenario: Scenario) -> AgentConfig:
    if scenario.agent is None:
        return workflow.agents[0]
    try:
        return workflow.agent(scenario.agent)
    except KeyError:
        known = ", ".join(agent.name for agent in workflow.agents)
        raise ConfigurationError(
            f"agent: expected an agent of {scenario.workflow} ({known}), got {scenario.agent!r}", key="agent"
        ) from None
