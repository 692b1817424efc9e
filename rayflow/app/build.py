"""What each actor is made of: the only place where rooms that do not know each other are put together.

Imports are lazy, because every actor is a process of its own: a router should not pay for Arrow, an aggregator not
for the openai package.
"""

from __future__ import annotations

import random
from pathlib import Path

from rayflow.actors.outbox import Outbox
from rayflow.app.logs import to_file
from rayflow.clock import SYSTEM_CLOCK
from rayflow.config.schema import WorkflowConfig
from rayflow.config.transfer import restore
from rayflow.errors import ConfigurationError, WorkflowError
from rayflow.runtime.ports import Actor, Backend, EventWriter, Fabric, Record, SessionStore, Supervising


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
        case "aggregator":
            from rayflow.actors.aggregator import Aggregator

            return Aggregator(workflow.aggregation)
        case "agent":
            return _agent(address, workflow, fabric)
        case "router":
            from rayflow.actors.router import Router

            return Router(address, workflow, fabric, _outbox(workflow, fabric), SYSTEM_CLOCK, random.Random())
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


def _check_shards(folder: Path, shards: int) -> None:
    """Sessions are spread over the shards by their number: with another number they would seem to be gone."""
    for file in sorted(folder.glob("shard-*-of-*.sqlite")):
        before = file.stem.rpartition("-")[2]
        if before != str(shards):
            raise ConfigurationError(
                f"session.shards is {shards}, but the sessions in {folder} were written with {before}: set it back",
                key="session.shards",
            )


def _agent(address: str, config: WorkflowConfig, fabric: Fabric) -> Actor:
    from rayflow.actors.agent import Agent
    from rayflow.models.factory import build

    _, name, replica = address.split("/")
    agent = config.agent(name)
    model = config.model(agent.model)
    return Agent(
        address,
        agent,
        build(model, int(replica)),
        model.retries,
        config.streaming,
        fabric,
        SYSTEM_CLOCK,
        random.Random(),
        config.processing.request_timeout_s,
    )
