"""The workflow file as types: what every key means, its default and its limits.

This is the only place where a key is defined. The loader, the JSON Schema, `rayflow config show`, the environment
variables and `docs/configuration.md` are all derived from it. Units stand in names (`_s`, `_bytes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import Field, model_validator

from rayflow import callbacks
from rayflow.config.sections.admission import (
    AdmissionConfig,
    Limit,
    LimitsConfig,
    PriorityConfig,
    ServiceClass,
    TenantConfig,
)
from rayflow.config.sections.agents import AgentConfig, DelegationRule, Replicas
from rayflow.config.sections.aggregation import AggregationConfig, ScoreWeights
from rayflow.config.sections.alerts import AlertRule, AlertsConfig
from rayflow.config.sections.balancing import BalancingConfig, EjectionConfig
from rayflow.config.sections.base import NAME_PATTERN, OWN_PATTERN, Mismatch, Name, ReferenceProblems, Section
from rayflow.config.sections.batch import BatchConfig
from rayflow.config.sections.caches import CachesConfig, ResultCacheConfig
from rayflow.config.sections.context import ContextConfig
from rayflow.config.sections.embeddings import EmbeddingsConfig
from rayflow.config.sections.memory import AgentMemory, MemoryConfig, OffPeak
from rayflow.config.sections.models import ModelConfig, Retries, Timeouts
from rayflow.config.sections.operation import MonitoringConfig, SecurityConfig, StorageConfig
from rayflow.config.sections.processing import ProcessingConfig, SessionConfig, StreamingConfig
from rayflow.config.sections.resilience import BreakerConfig, HedgingConfig, ResilienceConfig
from rayflow.config.sections.routing import KeywordRule, RoutingConfig
from rayflow.config.sections.scaling import ScalingConfig, Schedule
from rayflow.config.sections.state import StateConfig, StateField
from rayflow.errors import ValidationError

__all__ = [
    "NAME_PATTERN", "OWN_PATTERN", "AdmissionConfig", "AgentConfig", "AgentMemory", "AggregationConfig", "AlertRule",
    "AlertsConfig", "BalancingConfig", "BatchConfig", "BreakerConfig", "CachesConfig", "ContextConfig",
    "DelegationRule", "EjectionConfig", "EmbeddingsConfig", "HedgingConfig", "KeywordRule", "Limit", "LimitsConfig",
    "MemoryConfig", "Mismatch", "ModelConfig", "MonitoringConfig", "Name", "OffPeak", "PriorityConfig",
    "ProcessingConfig", "ReferenceProblems", "Replicas", "ResilienceConfig", "ResultCacheConfig", "Retries",
    "RoutingConfig", "ScalingConfig", "Schedule", "ScoreWeights", "Section", "SecurityConfig", "ServiceClass",
    "SessionConfig", "StateConfig", "StateField", "StorageConfig", "StreamingConfig", "TenantConfig", "Timeouts",
    "WorkflowConfig",
]  # fmt: skip


class WorkflowConfig(Section):
    """One workflow file."""

    name: Name
    """Name of the workflow; a model id of the API."""
    description: str = ""
    """Shown by `/v1/models` and the command line."""
    version: str = "1"
    """Your version of this workflow; recorded with every run."""
    agents: Annotated[list[AgentConfig], Field(min_length=1)]
    """The team."""
    models: list[ModelConfig] = [ModelConfig(name="offline")]
    """What the agents talk to. An entry named `offline` exists even when it is not listed."""
    routing: RoutingConfig = RoutingConfig()
    balancing: BalancingConfig = BalancingConfig()
    scaling: ScalingConfig = ScalingConfig()
    admission: AdmissionConfig = AdmissionConfig()
    priority: PriorityConfig = PriorityConfig()
    limits: LimitsConfig = LimitsConfig()
    tenants: list[TenantConfig] = []
    """Customers or teams that share this system; a request belongs to the tenant whose key it carries."""
    resilience: ResilienceConfig = ResilienceConfig()
    aggregation: AggregationConfig = AggregationConfig()
    processing: ProcessingConfig = ProcessingConfig()
    session: SessionConfig = SessionConfig()
    context: ContextConfig = ContextConfig()
    embeddings: EmbeddingsConfig = EmbeddingsConfig()
    caches: CachesConfig = CachesConfig()
    memory: MemoryConfig = MemoryConfig()
    state: StateConfig = StateConfig()
    streaming: StreamingConfig = StreamingConfig()
    batch: BatchConfig = BatchConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    alerts: AlertsConfig = AlertsConfig()
    security: SecurityConfig = SecurityConfig()
    storage: StorageConfig = StorageConfig()

    @model_validator(mode="after")
    def _references(self) -> WorkflowConfig:
        """Names must be unique and every reference must lead somewhere; all faults are reported at once, with paths."""
        problems = [
            *_duplicates("agents", self.agents),
            *_duplicates("models", self.models),
            *_duplicates("tenants", self.tenants),
        ]
        agents = {agent.name for agent in self.agents}
        models = {model.name for model in self.models} | {"offline"}
        if self.name in agents:
            problems.append(Mismatch("name", "a name that no agent has (both are model ids)", repr(self.name)))
        for i, agent in enumerate(self.agents):
            if agent.model not in models:
                problems.append(_unknown(f"agents.{i}.model", "a model", agent.model, models))
            for j, name in enumerate(agent.fallback_models):
                if name not in models:
                    problems.append(_unknown(f"agents.{i}.fallback_models.{j}", "a model", name, models))
            others = agents - {agent.name}
            if agent.fallback_agent is not None and agent.fallback_agent not in others:
                problems.append(_unknown(f"agents.{i}.fallback_agent", "another agent", agent.fallback_agent, others))
            for j, rule in enumerate(agent.delegation_rules):
                if rule.agent not in agents:
                    problems.append(_unknown(f"agents.{i}.delegation_rules.{j}.agent", "an agent", rule.agent, agents))
        for i, keyword_rule in enumerate(self.routing.rules):
            for key, target in _targets(keyword_rule):
                if target not in agents:
                    problems.append(_unknown(f"routing.rules.{i}.{key}", "an agent", target, agents))
        default = self.routing.default_agent
        if default is not None and default not in agents:
            problems.append(_unknown("routing.default_agent", "an agent", default, agents))
        problems += [*_tenant_problems(self), *_webhook_problems(self)]
        for path, model in (
            ("routing.model", self.routing.model),
            ("aggregation.judge_model", self.aggregation.judge_model),
            ("context.summary_model", self.context.summary_model),
            ("embeddings.model", self.embeddings.model),
            ("memory.extraction_model", self.memory.extraction_model),
        ):
            if model is not None and model not in models:
                problems.append(_unknown(path, "a model", model, models))
        if problems:
            raise ReferenceProblems(problems)
        return self

    @property
    def keyed(self) -> bool:
        """Whether clients need an API key."""
        return bool(self.security.api_keys) or any(tenant.api_keys for tenant in self.tenants)

    def model(self, name: str) -> ModelConfig:
        """The entry of that name; `offline` needs no entry."""
        return next((model for model in self.models if model.name == name), ModelConfig(name="offline"))

    def agent(self, name: str) -> AgentConfig:
        """The agent of that name; KeyError where there is none."""
        for agent in self.agents:
            if agent.name == name:
                return agent
        raise KeyError(name)


def _duplicates(section: str, entries: Iterable[AgentConfig | ModelConfig | TenantConfig]) -> Iterator[Mismatch]:
    seen: set[str] = set()
    for i, entry in enumerate(entries):
        if entry.name in seen:
            yield Mismatch(f"{section}.{i}.name", "a name that is used once", f"{entry.name!r} again")
        seen.add(entry.name)


def _tenant_problems(config: WorkflowConfig) -> Iterator[Mismatch]:
    """A key that two share would make one of them the other."""
    known = set(config.security.api_keys)
    for i, tenant in enumerate(config.tenants):
        if tenant.tier and tenant.tier not in config.priority.user_tiers:
            tiers = set(config.priority.user_tiers)
            yield _unknown(f"tenants.{i}.tier", "an entry of priority.user_tiers", tenant.tier, tiers)
        for j, key in enumerate(tenant.api_keys):
            if key in known:
                yield Mismatch(f"tenants.{i}.api_keys.{j}", "a key that nobody else has", "one that is used twice")
            known.add(key)


def _webhook_problems(config: WorkflowConfig) -> Iterator[Mismatch]:
    """A webhook that will never be told."""
    if config.alerts.webhook is not None:
        try:
            callbacks.target(config.alerts.webhook, config.security.callback_hosts)
        except ValidationError as refused:
            yield Mismatch("alerts.webhook", "a URL that callbacks may be sent to", refused.message)


def _targets(rule: KeywordRule) -> list[tuple[str, str]]:
    single = [("target_agent", rule.target_agent)] if rule.target_agent else []
    return single + [(f"target_agents.{j}", target) for j, target in enumerate(rule.target_agents)]


def _unknown(path: str, kind: str, name: str, known: set[str]) -> Mismatch:
    return Mismatch(path, f"the name of {kind} ({', '.join(sorted(known))})", repr(name))
