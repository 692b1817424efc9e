"""What each actor is made of: the only place where rooms that do not know each other are put together.

Imports are lazy, because every actor is a process of its own: a router should not pay for Arrow, an aggregator not
for the openai package.
"""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

from rayflow.actors.outbox import Outbox
from rayflow.app.logs import to_file
from rayflow.clock import SYSTEM_CLOCK
from rayflow.config.schema import ModelConfig, WorkflowConfig
from rayflow.config.sections.routing import PREPARED
from rayflow.config.transfer import restore
from rayflow.errors import ConfigurationError, WorkflowError
from rayflow.runtime.ports import (
    Actor,
    Backend,
    Books,
    EventWriter,
    Fabric,
    ModelClient,
    Record,
    SessionStore,
    Supervising,
)


def build_coordinator(fabric: Fabric, backend: Backend, record: Record) -> Supervising:
    from rayflow.actors.coordinator import Coordinator

    return Coordinator(fabric, backend, SYSTEM_CLOCK, random.Random(), record)


def build_record(run_dir: Path, run: str) -> Record:
    """In the run folder: what is in it must survive the coordinator, and not the run."""
    from rayflow.stores.record import SqliteRecord

    return SqliteRecord(run_dir / "record.sqlite", run)


def build_actor(role: str, address: str, config: bytes, fabric: Fabric) -> Actor:
    """The actor for a role. `config`: the workflow configuration as JSON. Raises `ConfigurationError`."""
    workflow = restore(config)
    if not fabric.endpoint.startswith("inprocess:"):
        to_file(Path(workflow.storage.state), address, workflow.monitoring.log_level)
    match role:
        case "eventlog":
            return _event_log(address, workflow)
        case "session":
            return _sessions(address, workflow, fabric)
        case "accounts":
            return _accounts(address, workflow)
        case "aggregator":
            return _aggregator(address, workflow)
        case "agent":
            return _agent(address, workflow, fabric)
        case "router":
            return _router(address, workflow, fabric)
        case _:
            raise WorkflowError(f"there is no role {role!r}", address=address)


def events_folder(config: WorkflowConfig) -> Path:
    """Where the event log keeps its segments."""
    return Path(config.storage.events or Path(config.storage.state) / "events")


def _outbox(config: WorkflowConfig, fabric: Fabric) -> Outbox:
    return Outbox(fabric, config.monitoring.event_log)


def _event_log(address: str, config: WorkflowConfig) -> Actor:
    from rayflow.actors.eventlog import EventLog
    from rayflow.analytics.log import ParquetLog

    writer: EventWriter = ParquetLog(events_folder(config), address)
    return EventLog(writer, config.monitoring.flush_s, config.monitoring.max_buffered_events, SYSTEM_CLOCK)


def _sessions(address: str, config: WorkflowConfig, fabric: Fabric) -> Actor:
    from rayflow.actors.sessions import Sessions

    return Sessions(address, _store(address, config), _outbox(config, fabric), SYSTEM_CLOCK)


def _store(address: str, config: WorkflowConfig) -> SessionStore:
    if config.session.store == "memory":
        from rayflow.stores.memory import MemoryStore

        return MemoryStore(config.session.max_memory_sessions)
    from rayflow.stores.sqlite import SqliteStore

    folder = Path(config.storage.state) / "sessions"
    _check_shards(folder, config.session.shards)
    shard = address.rpartition("/")[2]
    return SqliteStore(folder / f"shard-{shard}-of-{config.session.shards}.sqlite", config.session.synchronous)


def _accounts(address: str, config: WorkflowConfig) -> Actor:
    from rayflow.actors.accounts import AccountKeeper
    from rayflow.runtime.limits import needs_books
    from rayflow.stores.books import MemoryBooks, SqliteBooks

    budgets = needs_books(config)
    books: Books = SqliteBooks(Path(config.storage.state) / "accounts.sqlite") if budgets else MemoryBooks()
    return AccountKeeper(address, config, books, SYSTEM_CLOCK)


def _check_shards(folder: Path, shards: int) -> None:
    """Sessions are spread over the shards by their number: with another number they would seem to be gone."""
    for file in sorted(folder.glob("shard-*-of-*.sqlite")):
        before = file.stem.rpartition("-")[2]
        if before != str(shards):
            raise ConfigurationError(
                f"session.shards is {shards}, but the sessions in {folder} were written with {before}: set it back",
                key="session.shards",
            )


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


def _router(address: str, config: WorkflowConfig, fabric: Fabric) -> Actor:
    from rayflow.actors.router import NO_MEANS, Router

    means = NO_MEANS
    if config.routing.strategy in PREPARED:
        from rayflow.app.learning import routing_means

        means = routing_means(config)
    outbox = _outbox(config, fabric)
    return Router(address, config, fabric, outbox, SYSTEM_CLOCK, random.Random(), means)


def _agent(address: str, config: WorkflowConfig, fabric: Fabric) -> Actor:
    from rayflow.actors.agent import Agent
    from rayflow.models.factory import build

    _, name, replica = address.split("/")
    return Agent(
        address,
        config.agent(name),
        lambda model: build(config.model(model), int(replica)),
        config.streaming,
        fabric,
        SYSTEM_CLOCK,
        config.processing.request_timeout_s,
    )
