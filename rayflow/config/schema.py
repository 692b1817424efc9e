"""The workflow file as types: what every key means, its default and its limits.

This is the only place where a key is defined. The loader, the JSON Schema, `rayflow config show`, the environment
variables and `docs/configuration.md` are all derived from it. Units stand in names (`_s`, `_bytes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=64)]
"""Names of workflows, agents and models: they become model ids, actor names and metric labels."""


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, defaults are checked, values cannot change after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True, strict=True
    )


class DelegationRule(Section):
    """Hand a message on to another agent when it contains one of the keywords."""

    keywords: Annotated[list[str], Field(min_length=1)]
    """Words or phrases, matched as whole words, case-insensitive."""
    agent: Name
    """Name of the agent to hand on to."""


class Replicas(Section):
    """How many actors serve one agent, and how much each takes on."""

    min: Annotated[int, Field(ge=1, le=256)] = 1
    """Replicas that always run."""
    max: Annotated[int, Field(ge=1, le=256)] = 4
    """Upper limit for scaling."""
    max_in_flight: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Calls one replica works on at the same time; further ones wait in the router's bounded queue."""

    @model_validator(mode="after")
    def _order(self) -> Replicas:
        if self.max < self.min:
            raise ReferenceProblems([Mismatch("max", f"at least min ({self.min})", str(self.max))])
        return self


class AgentConfig(Section):
    """A named role: model, prompt, limits."""

    name: Name
    """Unique name; also a model id of the OpenAI-compatible API."""
    type: Literal["collaborative", "specialist"] = "collaborative"
    """collaborative: may answer together with others. specialist: answers alone."""
    role: str = ""
    """What the agent is, in a few words; part of its system prompt."""
    goal: str = ""
    """What it tries to reach; part of its system prompt."""
    model: Name = "offline"
    """Name of an entry under `models`."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Sampling temperature; unset leaves it to the endpoint."""
    seed: Annotated[int, Field(ge=-(1 << 63), le=(1 << 63) - 1)] | None = None
    """Seed for endpoints that support repeatable sampling."""
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Upper limit for one answer."""
    system_prompt: str = ""
    """Instructions at the start of every call."""
    capabilities: list[str] = []
    """Topics this agent can handle; the capability map routes by them."""
    delegation_rules: list[DelegationRule] = []
    """When to hand a message on to another agent."""
    replicas: Replicas = Replicas()
    """Size of the agent's pool."""


class Timeouts(Section):
    """Limits for one call of a model, in seconds. A request's own deadline shortens them, never extends."""

    connect_s: Annotated[float, Field(gt=0, le=600)] = 5.0
    """Until the connection stands."""
    first_token_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """From the request until the first piece of the answer."""
    between_tokens_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """Longest silence within a streamed answer."""
    total_s: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """The whole call."""


class Retries(Section):
    """Retries of one call of a model; none after the first piece of the answer."""

    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """Calls in all, the first one included."""
    base_delay_s: Annotated[float, Field(ge=0, le=60)] = 0.1
    """The n-th wait is random between 0 and base_delay_s x 2^n (full jitter)."""
    max_delay_s: Annotated[float, Field(ge=0, le=300)] = 1.0
    """Upper limit of one wait."""


class ModelConfig(Section):
    """What an agent talks to: an OpenAI-compatible endpoint or the embedded offline model."""

    name: Name
    """Unique name that agents refer to."""
    provider: Literal["offline", "openai"] = "offline"
    """offline: the embedded extractive responder, no language model. openai: any OpenAI-compatible endpoint."""
    model: str = ""
    """Model id at the endpoint; empty means the entry's own name."""
    base_url: str | list[str] | None = None
    """Endpoint with its version path, for example http://127.0.0.1:8000/v1; of a list, replica n of an agent uses
    entry n modulo its length. Unset: OPENAI_BASE_URL or OpenAI's own."""
    api_key: SecretStr | None = None
    """Key; write it as `${NAME}`. Unset: OPENAI_API_KEY."""
    organization: str | None = None
    """OpenAI organisation id."""
    project: str | None = None
    """OpenAI project id."""
    lane: Literal["fast", "sdk"] = "fast"
    """openai only. fast: rayflow's own HTTP client. sdk: the openai package's, several times slower, for what only it
    can do."""
    headers: Annotated[dict[str, str], Field(json_schema_extra={"writeOnly": True})] = {}
    """Further HTTP headers of each call; their values are treated as secrets."""
    knowledge: str | None = None
    """offline only: a text or Markdown file whose sentences it may answer with; relative to the workflow file."""
    timeouts: Timeouts = Timeouts()
    """Limits of one call."""
    retries: Retries = Retries()
    """What to do when a call fails."""


class KeywordRule(Section):
    """Send a message to agents when it contains keywords.

    Confidence is 1 - 0.2^h for h distinct keywords found: 0.8 for one, 0.96 for two.
    """

    name: str = ""
    """Shown in events and explanations."""
    keywords: Annotated[list[str], Field(min_length=1)]
    """Words or phrases, matched as whole words, case-insensitive."""
    target_agent: Name | None = None
    """Agent to send to."""
    target_agents: list[Name] = []
    """Several agents to ask side by side."""
    confidence_threshold: Annotated[float, Field(ge=0, le=1)] = 0.7
    """The rule applies from this confidence on."""

    @model_validator(mode="after")
    def _target(self) -> KeywordRule:
        if (self.target_agent is None) == (not self.target_agents):
            got = "both" if self.target_agents else "neither"
            raise ReferenceProblems([Mismatch("target_agent", "either target_agent or target_agents", got)])
        return self


class RoutingConfig(Section):
    """Which agents answer a message."""

    strategy: Literal["keyword", "capability", "round_robin"] = "keyword"
    """keyword: rules, then the capability map, then the default agent. capability: the capability map, then the default
    agent. round_robin: agents in turn."""
    rules: list[KeywordRule] = []
    """Keyword rules; the one with the highest confidence wins, the earlier one on a tie."""
    default_agent: Name | None = None
    """Who answers when nothing matches; unset: the first agent."""
    max_agents_per_request: Annotated[int, Field(ge=1, le=16)] = 3
    """Upper limit of agents asked side by side."""
    max_delegations: Annotated[int, Field(ge=0, le=8)] = 1
    """How often a message may be handed on by delegation rules."""


class AggregationConfig(Section):
    """How several answers become one."""

    strategy: Literal["best_response", "merge"] = "merge"
    """best_response: the highest-scored answer. merge: all answers, duplicates removed, under their agents' names."""
    max_merged_length: Annotated[int, Field(ge=1, le=1_000_000)] = 5000
    """Characters a merged answer may have; it is cut at a sentence."""
    source_attribution: bool = True
    """Put the agent's name above each part of a merged answer."""


class ProcessingConfig(Section):
    """How requests are taken in."""

    input_validation: bool = True
    """Check the length of messages."""
    min_length: Annotated[int, Field(ge=0)] = 1
    """Fewest characters of a user message."""
    max_length: Annotated[int, Field(ge=1)] = 10_000
    """Most characters of a user message."""
    request_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    """Deadline of a run; clients may ask for less."""
    routers: Annotated[int, Field(ge=1, le=64)] = 1
    """Router actors; a session always belongs to one of them."""
    ingress: Annotated[int, Field(ge=1, le=64)] = 2
    """HTTP processes on the one port; with two, one may die without the port being closed for a moment."""
    max_queue: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    """Runs that may wait for a busy agent in one router; more get 429 with Retry-After."""
    ready_grace_s: Annotated[float, Field(ge=0, le=600)] = 0.5
    """When stopping: `/readyz` answers 503 for so long before the port is closed. Behind a load balancer, longer than
    it takes to notice that."""
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """Time for work in flight when stopping."""

    @model_validator(mode="after")
    def _order(self) -> ProcessingConfig:
        if self.max_length < self.min_length:
            raise ReferenceProblems(
                [Mismatch("max_length", f"at least min_length ({self.min_length})", str(self.max_length))]
            )
        return self


class SessionConfig(Section):
    """How conversations are kept."""

    store: Literal["sqlite", "memory"] = "sqlite"
    """sqlite: durable, in the state folder. memory: lost with the process."""
    shards: Annotated[int, Field(ge=1, le=64)] = 1
    """Session store actors; each owns a part of all sessions. It cannot change while the state folder holds any."""
    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    """SQLite durability: FULL survives power loss, NORMAL only process death."""
    max_memory_sessions: Annotated[int, Field(ge=1)] = 100_000
    """memory only: the least recently used session is dropped beyond this."""


class ContextConfig(Section):
    """What a model sees of the conversation."""

    enrichment: bool = True
    """Add earlier turns of the session to a call."""
    window: Annotated[int, Field(ge=0, le=1000)] = 20
    """Earlier messages a call carries."""
    cached_sessions: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    """Sessions whose window a router keeps in memory, so that a turn reads the store once and not each time."""


class StreamingConfig(Section):
    """How answers are streamed."""

    flush_s: Annotated[float, Field(ge=0, le=5)] = 0.01
    """Tokens are collected for this long after the first one, which goes out at once."""
    max_chars: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """Collected text is sent when it reaches this length."""
    keepalive_s: Annotated[float, Field(gt=0, le=600)] = 15.0
    """A comment line is sent on a silent stream this often."""


class MonitoringConfig(Section):
    """What is recorded."""

    event_log: bool = True
    """Write events to Parquet."""
    flush_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    """Events are on disk and visible to queries after at most about this long."""
    max_buffered_events: Annotated[int, Field(ge=100)] = 200_000
    """Events kept in memory while the disk does not take them; the oldest are dropped, and counted, beyond this."""
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    """Level of the processes' own logs."""


class SecurityConfig(Section):
    """Who may do what."""

    api_keys: list[SecretStr] = []
    """Keys that clients send as `Authorization: Bearer KEY`; write them as `"${NAME}"`. Empty: no key is asked for, and
    the server listens on loopback only."""
    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 1 << 20
    """Largest request body."""
    max_json_depth: Annotated[int, Field(ge=4, le=512)] = 64
    """Deepest nesting of a request body."""


class StorageConfig(Section):
    """Where things are kept."""

    state: str = ".rayflow"
    """State folder: sessions, events, run files. Relative to the working directory."""
    events: str | None = None
    """Folder of the event log; unset: `events` in the state folder."""


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
    aggregation: AggregationConfig = AggregationConfig()
    processing: ProcessingConfig = ProcessingConfig()
    session: SessionConfig = SessionConfig()
    context: ContextConfig = ContextConfig()
    streaming: StreamingConfig = StreamingConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    security: SecurityConfig = SecurityConfig()
    storage: StorageConfig = StorageConfig()

    @model_validator(mode="after")
    def _references(self) -> WorkflowConfig:
        """Names must be unique and every reference must lead somewhere; all faults are reported at once, with paths."""
        problems = [*_duplicates("agents", self.agents), *_duplicates("models", self.models)]
        agents = {agent.name for agent in self.agents}
        models = {model.name for model in self.models} | {"offline"}
        if self.name in agents:
            problems.append(Mismatch("name", "a name that no agent has (both are model ids)", repr(self.name)))
        for i, agent in enumerate(self.agents):
            if agent.model not in models:
                problems.append(_unknown(f"agents.{i}.model", "a model", agent.model, models))
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
        if problems:
            raise ReferenceProblems(problems)
        return self

    def model(self, name: str) -> ModelConfig:
        """The entry of that name; `offline` needs no entry."""
        return next((model for model in self.models if model.name == name), ModelConfig(name="offline"))

    def agent(self, name: str) -> AgentConfig:
        """The agent of that name; KeyError where there is none."""
        for agent in self.agents:
            if agent.name == name:
                return agent
        raise KeyError(name)


class Mismatch(NamedTuple):
    """A value that does not fit another one. `path` is dotted, below the section that found it."""

    path: str
    expected: str
    got: str


class ReferenceProblems(ValueError):
    """Faults that lie between keys, all of one section at once."""

    def __init__(self, problems: list[Mismatch]) -> None:
        super().__init__("; ".join(f"{path}: expected {expected}, got {got}" for path, expected, got in problems))
        self.problems = problems


def _duplicates(section: str, entries: Iterable[AgentConfig | ModelConfig]) -> Iterator[Mismatch]:
    seen: set[str] = set()
    for i, entry in enumerate(entries):
        if entry.name in seen:
            yield Mismatch(f"{section}.{i}.name", "a name that is used once", f"{entry.name!r} again")
        seen.add(entry.name)


def _targets(rule: KeywordRule) -> list[tuple[str, str]]:
    single = [("target_agent", rule.target_agent)] if rule.target_agent else []
    return single + [(f"target_agents.{j}", target) for j, target in enumerate(rule.target_agents)]


def _unknown(path: str, kind: str, name: str, known: set[str]) -> Mismatch:
    return Mismatch(path, f"the name of {kind} ({', '.join(sorted(known))})", repr(name))
