"""What each actor is made of: the only place where rooms that do not know each other are put together.

Imports are lazy, because every actor is a process of its own: a router should not pay for Arrow, an aggregator not
for the openai package.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rayflow.actors.outbox import Outbox
from rayflow.app.logs import to_file
from rayflow.callbacks import Callbacks
from rayflow.clock import SYSTEM_CLOCK
from rayflow.config.schema import ModelConfig, WorkflowConfig
from rayflow.config.sections.routing import PREPARED
from rayflow.config.transfer import restore
from rayflow.errors import WorkflowError
from rayflow.policies.redaction import redactor
from rayflow.runtime.ports import (
    Actor,
    Backend,
    Books,
    ContextSource,
    Embedder,
    EventWriter,
    Fabric,
    ModelClient,
    Record,
    ShardStore,
    Supervising,
)

if TYPE_CHECKING:
    from rayflow.actors.enrichment import ContextMeans


FEEDER_MODULE = "rayflow.batch.feeder"

Models = Callable[[ModelConfig, str], ModelClient]
"""Who answers for an entry of `models` when the actor at this address calls it."""


def build_coordinator(fabric: Fabric, backend: Backend, record: Record) -> Supervising:
    from rayflow.actors.coordinator import Coordinator

    return Coordinator(fabric, backend, SYSTEM_CLOCK, random.Random(), record)


def build_record(run_dir: Path, run: str) -> Record:
    """In the run folder: what is in it must survive the coordinator, and not the run."""
    from rayflow.stores.record import SqliteRecord

    return SqliteRecord(run_dir / "record.sqlite", run)


def build_actor(role: str, address: str, config: bytes, fabric: Fabric, models: Models | None = None) -> Actor:
    """The actor for a role. `config`: the workflow configuration as JSON. `models`: who stands for the models
    that answer and those that choose who does; None: they are called. Raises `ConfigurationError`."""
    workflow = restore(config)
    if not fabric.endpoint.startswith("inprocess:"):
        to_file(workflow, address)
    match role:
        case "eventlog":
            return _event_log(address, workflow, fabric)
        case "session":
            return _sessions(address, workflow, fabric)
        case "accounts":
            return _accounts(address, workflow)
        case "aggregator":
            return _aggregator(address, workflow)
        case "agent":
            return _agent(address, workflow, fabric, models)
        case "router":
            return _router(address, workflow, fabric, models)
        case "feeder":
            # By name: it belongs to the room of batch jobs, which stands on this one.
            return cast(Actor, import_module(FEEDER_MODULE).build(address, workflow, fabric))
        case _:
            raise WorkflowError(f"there is no role {role!r}", address=address)


def events_folder(config: WorkflowConfig) -> Path:
    """Where the event log keeps its segments."""
    return Path(config.storage.events or Path(config.storage.state) / "events")


def _outbox(address: str, config: WorkflowConfig, fabric: Fabric) -> Outbox:
    monitoring = config.monitoring
    return Outbox(
        fabric,
        monitoring.event_log,
        limit=monitoring.max_buffered_events,
        source=address,
        redactor=redactor(monitoring),
    )


def _event_log(address: str, config: WorkflowConfig, fabric: Fabric) -> Actor:
    from rayflow.actors.eventlog import EventLog
    from rayflow.actors.watch import Watch, WatchedLog
    from rayflow.analytics.log import SegmentLog
    from rayflow.app.upkeep import tend, upkeep_task

    monitoring = config.monitoring
    root = events_folder(config)
    writer: EventWriter = SegmentLog(root, address, monitoring.roll_bytes, monitoring.roll_s)
    events = EventLog(writer, partial(tend, upkeep_task(root, address, config)), monitoring.flush_s, SYSTEM_CLOCK)
    book, callbacks = Path(config.storage.state) / "raised-alerts.json", Callbacks(config.security.callback_hosts)
    return WatchedLog(events, Watch(config, book, _outbox(address, config, fabric), callbacks, SYSTEM_CLOCK))


def _sessions(address: str, config: WorkflowConfig, fabric: Fabric) -> Actor:
    from rayflow.actors.sessions import Expiry, Sessions
    from rayflow.stores.factory import build

    session = config.session
    store: ShardStore = build(config, int(address.rpartition("/")[2]))
    ages = (session.default_timeout_s, session.max_timeout_s) if session.expire else (0.0, 0.0)
    outbox = _outbox(address, config, fabric)
    sessions = Sessions(address, store, outbox, SYSTEM_CLOCK, Expiry(*ages, session.cleanup_s))
    return keeping(config, remembering(address, config, sessions, store, outbox))


def keeping(config: WorkflowConfig, sessions: Actor) -> Actor:
    """The store actor with the answers that are kept for all routers, where that is configured."""
    results = config.caches.results
    if not results.enabled or results.levels == ["router"]:
        return sessions
    from rayflow.actors.kept_results import KeptResults

    return KeptResults(sessions, results, SYSTEM_CLOCK)


def remembering(address: str, config: WorkflowConfig, sessions: Actor, store: ShardStore, outbox: Outbox) -> Actor:
    """The store actor with a memory, where that is configured."""
    if not config.memory.enabled:
        return sessions
    from rayflow.actors.memory_meaning import MemoryMeaning
    from rayflow.actors.remembering import RememberingStore

    vectors = embedder(config)
    meaning = MemoryMeaning(vectors, config.embeddings.wait_s) if vectors is not None else None
    return RememberingStore(address, sessions, store, config.memory, outbox, SYSTEM_CLOCK, meaning)


def _accounts(address: str, config: WorkflowConfig) -> Actor:
    from rayflow.actors.accounts import AccountKeeper
    from rayflow.runtime.limits import needs_books
    from rayflow.stores.books import MemoryBooks, SqliteBooks

    budgets = needs_books(config)
    books: Books = SqliteBooks(Path(config.storage.state) / "accounts.sqlite") if budgets else MemoryBooks()
    return AccountKeeper(address, config, books, SYSTEM_CLOCK)


def _aggregator(address: str, config: WorkflowConfig) -> Actor:
    from rayflow.actors.aggregator import Aggregator
    from rayflow.actors.judge import Judge

    aggregation, judge = config.aggregation, None
    if aggregation.judge_model is not None:
        judge = Judge(partial(_model, config.model(aggregation.judge_model)), aggregation.judge_timeout_s, SYSTEM_CLOCK)
    return Aggregator(aggregation, judge, address)


def _model(config: ModelConfig) -> ModelClient:
    from rayflow.models.factory import build

    return build(config)


def embedder(config: WorkflowConfig) -> Callable[[], Embedder] | None:
    """Makes who makes vectors, inside the event loop that will use it; None where the configuration names nobody.
    Raises `ConfigurationError` when called."""
    if not config.embeddings.enabled:
        return None
    from rayflow.models.factory import embeddings

    return partial(embeddings, config)


def _router(address: str, config: WorkflowConfig, fabric: Fabric, models: Models | None) -> Actor:
    from rayflow.actors.router import NO_MEANS, Router
    from rayflow.actors.routes import RoutingMeans

    means = NO_MEANS
    if config.routing.strategy == "llm" and models is not None:
        means = RoutingMeans(model=partial(models, config.model(config.routing.model), address))
    elif config.routing.strategy in PREPARED:
        from rayflow.app.learning import routing_means

        means = routing_means(config)
    outbox, told = _outbox(address, config, fabric), context_means(config)
    if config.state.shown:
        told = replace(told, sources=(*told.sources, _state_source(config, fabric)))
    return Router(address, config, fabric, outbox, SYSTEM_CLOCK, random.Random(), means, told)


def _state_source(config: WorkflowConfig, fabric: Fabric) -> ContextSource:
    from rayflow.actors.enrichment import SOURCE_TIMEOUT_S
    from rayflow.actors.state_source import StateSource
    from rayflow.messages import ReadRecords, Records
    from rayflow.policies.placement import record_shard, shard_addresses

    shards = shard_addresses(config.session.shards)

    async def read(message: ReadRecords) -> Records:
        shard = record_shard(message.tenant, message.owner, shards)
        records: Records = await fabric.ask(shard, message, SOURCE_TIMEOUT_S)
        return records

    return StateSource(config.state, read)


def context_means(config: WorkflowConfig) -> ContextMeans:
    """How tokens are counted, and who summarises. Raises `ConfigurationError` where that takes a missing package."""
    from rayflow.actors.enrichment import ContextMeans
    from rayflow.policies.context import tokens

    name, model = config.context.tokenizer, config.context.summary_model
    summariser = partial(_model, config.model(model)) if model is not None else None
    extracting = config.memory.extraction_model
    extractor = partial(_model, config.model(extracting)) if extracting is not None else None
    if name == "estimate":
        return ContextMeans(tokens.estimate, summariser, embedder=embedder(config), extractor=extractor)
    from rayflow.models.tokenizers import tokenizer

    return ContextMeans(tokenizer(name), summariser, embedder=embedder(config), extractor=extractor)


def _agent(address: str, config: WorkflowConfig, fabric: Fabric, models: Models | None) -> Actor:
    from rayflow.actors.agent import Agent
    from rayflow.models.factory import build

    _, name, replica = address.split("/")

    def client(model: str) -> ModelClient:
        entry = config.model(model)
        return build(entry, int(replica)) if models is None else models(entry, address)

    return Agent(
        address,
        config.agent(name),
        client,
        config.streaming,
        fabric,
        SYSTEM_CLOCK,
        config.processing.request_timeout_s,
        config.monitoring.otel.enabled,
    )
