"""What a new configuration changes: who goes on as it is, who is replaced, added and removed. Pure.

Every actor is built from a part of the configuration. `READS` says which; two configurations that agree on it make the
same actor, which need not be touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rayflow.config.schema import AgentConfig, EmbeddingsConfig, ModelConfig, WorkflowConfig
from rayflow.errors import ConfigurationError
from rayflow.runtime.roster import FEEDER, child_spec, roster
from rayflow.runtime.supervision.specs import ChildSpec

LOGS = ("monitoring.log_level", "monitoring.log_format")

READS: Mapping[str, tuple[str, ...]] = {
    "eventlog": (
        "monitoring.event_log", "monitoring.flush_s", "monitoring.roll_bytes", "monitoring.roll_s",
        "monitoring.retention_days", "monitoring.cold_after_days", "monitoring.interval_s", *LOGS,
        "monitoring.max_buffered_events", "monitoring.redact_patterns", "alerts", "security.callback_hosts",
        "storage.cold_events",
    ),
    "session": (
        "session", "caches", "memory", "embeddings", "models", "monitoring.event_log", *LOGS,
        "monitoring.max_buffered_events", "monitoring.redact_patterns",
    ),
    "accounts": ("limits", "tenants", "processing.request_timeout_s", *LOGS),
    "aggregator": ("aggregation", "models", *LOGS),
    "agent": (
        "agents", "models", "resilience", "streaming", "processing.request_timeout_s", "monitoring.otel.enabled", *LOGS,
    ),
    "router": (
        "agents", "models", "routing", "balancing", "admission", "priority", "limits", "tenants", "resilience",
        "aggregation", "processing.input_validation", "processing.min_length", "processing.max_length",
        "processing.request_timeout_s", "processing.max_queue", "processing.multitask_strategy", "context",
        "embeddings", "caches", "memory", "state", "session.shards", "monitoring.event_log", *LOGS,
        "monitoring.otel.enabled", "monitoring.otel.sample_ratio", "monitoring.max_buffered_events",
        "monitoring.capture", "monitoring.capture_max_chars", "monitoring.redact_patterns", "alerts.enabled",
    ),
    "feeder": (
        "agents", "models", "processing.request_timeout_s", "session.shards", "monitoring.event_log", *LOGS,
        "monitoring.max_buffered_events", "monitoring.redact_patterns",
    ),
}  # fmt: skip
"""Role -> the parts of the configuration that its actors are built from. Of `agents` and `models`, an agent's replica
reads its own entries only; how many replicas there are, the directory tells."""

FIXED = (
    "name", "session.store", "session.shards", "session.namespace", "storage.state", "storage.events",
)  # fmt: skip
"""What only a restart can change: it names files."""

PRICES = ("price_prompt", "price_cached_prompt", "price_completion")

LIVE = (
    "scaling", "batch", "description", "version", "security", "streaming.keepalive_s", "processing.ready_grace_s",
    "processing.drain_s", "processing.routers", "processing.ingress", "processing.on_disconnect", "monitoring.otel",
    "monitoring.sql_sandbox", "monitoring.sql_timeout_s", "monitoring.sql_memory_bytes", "monitoring.sql_max_rows",
    "monitoring.sql_max_bytes", "monitoring.sql_at_once",
)  # fmt: skip
"""What no actor is built from: read by the processes that are told the new configuration (serve, ingress, clients), and
by the roster."""


@dataclass(frozen=True, slots=True)
class Plan:
    """In start order, what is removed in stop order. `kept` are the new specs of children that need not be touched."""

    added: tuple[ChildSpec, ...]
    replaced: tuple[ChildSpec, ...]
    kept: tuple[ChildSpec, ...]
    removed: tuple[ChildSpec, ...]

    @property
    def idle(self) -> bool:
        """Whether no child needs to be touched."""
        return not (self.added or self.replaced or self.removed)


def plan(
    running: Iterable[ChildSpec],
    configs: Mapping[int, WorkflowConfig],
    target: int,
    pools: Mapping[str, Sequence[str]] | None = None,
) -> Plan:
    """How to get from the children that there are to the configuration numbered `target`. Each child is compared by the
    configuration that it was built from, so it does not matter how far an earlier rollout has come. `pools`: as for
    `roster`."""
    present = {spec.address: spec for spec in running}
    feeders = [address for address, spec in present.items() if spec.role == FEEDER]
    future = [
        *roster(configs[target], target, pools),
        *(child_spec(configs[target], address, target) for address in feeders),
    ]
    added, replaced, kept = [], [], []
    for spec in future:
        before = present.get(spec.address)
        if before is None:
            added.append(spec)
        elif view(spec, configs[before.generation]) != view(spec, configs[target]):
            replaced.append(spec)
        else:
            kept.append(spec)
    removed = present.keys() - {spec.address for spec in future}
    last_first = sorted((present[a] for a in removed), key=lambda spec: (-spec.group.phase, spec.address))
    return Plan(tuple(added), tuple(replaced), tuple(kept), tuple(last_first))


def view(spec: ChildSpec, config: WorkflowConfig) -> list[Any]:
    """The parts of the configuration that this child is built from."""
    agents = [_uncounted(agent) for agent in config.agents]
    models = config.models
    if spec.role == "agent":
        agents = [_unplaced(agent) for agent in agents if agent.name == spec.address.split("/")[1]]
        models = [_unpriced(config.model(name)) for agent in agents for name in (agent.model, *agent.fallback_models)]
    elif spec.role == "session":
        if not config.memory.enabled:
            config = config.model_copy(update={"embeddings": EmbeddingsConfig()})
        models = [config.model(name)] if (name := config.embeddings.model) else []
    elif spec.role == "aggregator":
        models = [config.model(judge)] if (judge := config.aggregation.judge_model) else []
    elif spec.role == "router":
        called = _called(config)
        asked = called | {name for agent in agents for name in (agent.model, *agent.fallback_models)}
        asked.add(config.aggregation.judge_model)
        models = [m if m.name in called else _known(m) for m in models if m.name in asked]
    tenants = [tenant.model_copy(update={"api_keys": []}) for tenant in config.tenants]  # those the ingress reads
    config = config.model_copy(update={"agents": agents, "models": models, "tenants": tenants})
    return [part(config, path) for path in READS[spec.role]]


def check(before: WorkflowConfig, after: WorkflowConfig) -> None:
    """Raises `ConfigurationError`, naming every key whose change needs a restart."""
    keys = [path for path in FIXED if part(before, path) != part(after, path)]
    if after.session.store == "memory":
        # The sessions would be gone with their store.
        keys += [path for path in READS["session"] if path not in keys and part(before, path) != part(after, path)]
    if keys:
        raise ConfigurationError(
            f"{', '.join(keys)} cannot change while the workflow runs: set it back, or restart the workflow", keys=keys
        )


def part(config: WorkflowConfig, path: str) -> Any:
    """The value at a dotted path."""
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _uncounted(agent: AgentConfig) -> AgentConfig:
    """Without what only the coordinator reads: how many replicas there are."""
    replicas = agent.replicas.model_copy(update={"min": 1, "max": 1, "spares": 0})
    return agent.model_copy(update={"replicas": replicas, "scaling": None})


def _called(config: WorkflowConfig) -> set[str | None]:
    """Models that a router calls itself, and those whose answers it keeps: another model gives other ones."""
    called = {config.context.summary_model, config.embeddings.model, config.memory.extraction_model}
    if config.routing.strategy == "llm":
        called.add(config.routing.model)
    if config.caches.results.enabled:
        called.update(agent.model for agent in config.agents)
    return called


def _known(model: ModelConfig) -> ModelConfig:
    """What a router knows of a model that it does not call."""
    blank = ModelConfig(name=model.name)
    return blank.model_copy(update={name: getattr(model, name) for name in ("provider", *PRICES)})


def _unpriced(model: ModelConfig) -> ModelConfig:
    blank = ModelConfig(name=model.name)
    return model.model_copy(update={name: getattr(blank, name) for name in PRICES})


def _unplaced(agent: AgentConfig) -> AgentConfig:
    """Without what only routers read: which messages come to it, and to which replica."""
    blank = AgentConfig(name=agent.name)
    others = ("capabilities", "delegation_rules", "description", "examples", "examples_file", "timeout_s",
              "fallback_agent", "balancing", "memory")  # fmt: skip
    return agent.model_copy(update={name: getattr(blank, name) for name in others})
