"""The process that exports to OpenTelemetry: reads the event log as it is written and sends spans and metrics. It
belongs to no actor and to no fabric, so nothing waits for it and nothing is lost with it.

    python -m rayflow.app.telemetry PARENT_PID < configuration
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from rayflow.app.build import events_folder
from rayflow.app.children import OnDemand, end_with_parent, spawn
from rayflow.app.logs import to_file
from rayflow.clock import SYSTEM_CLOCK
from rayflow.config.schema import WorkflowConfig
from rayflow.config.transfer import dump, restore
from rayflow.errors import ConfigurationError
from rayflow.policies.restart import RestartPolicy

MODULE = "rayflow.app.telemetry"
BOOK = "telemetry.json"
"""In the state folder: how far the log was exported."""
NEEDED = ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter")
"""In this order: whoever looks for a part of a package that is not there gets an exception."""
LOOK_S = 1.0
AWAY_S = 5.0
"""Until an unwilling collector is asked again."""
END_S = 15.0
"""To send what is left."""
RESTARTS = RestartPolicy(intensity=5, period_s=60.0)
NICE = 5

log = logging.getLogger(__name__)


Spawn = Callable[..., Awaitable[asyncio.subprocess.Process]]


def child(config: WorkflowConfig, start: Spawn = spawn) -> OnDemand:
    """Runs the process where it is wanted. Not to be kept up at any price: nothing depends on it."""
    process = OnDemand("the telemetry process", lambda: start(MODULE, stdin=dump(config)), RESTARTS)
    if config.monitoring.otel.enabled:
        process.wake()
    return process


@asynccontextmanager
async def exporting(config: WorkflowConfig) -> AsyncIterator[None]:
    """With the process, where it is wanted, for as long as the context lasts. Raises as `check`."""
    check(config)
    process = child(config)
    running = asyncio.create_task(process.run())
    try:
        yield
    finally:
        await process.end(END_S, asyncio.Event())
        await running


def check(config: WorkflowConfig) -> None:
    """Raises `ConfigurationError` where an export is wanted and what it takes is not installed."""
    if config.monitoring.otel.enabled and not all(map(find_spec, NEEDED)):
        raise ConfigurationError(
            "monitoring.otel.enabled needs the packages of OpenTelemetry: pip install 'rayflow[otel]'",
            keys=["monitoring.otel.enabled"],
        )


def export(config: WorkflowConfig, stopped: threading.Event) -> None:
    """Until `stopped`; what is in the log by then is sent first."""
    from opentelemetry.sdk.environment_variables import OTEL_SERVICE_NAME
    from opentelemetry.sdk.resources import Resource

    from rayflow.analytics.telemetry.collector import Collector
    from rayflow.analytics.telemetry.export import Export
    from rayflow.analytics.telemetry.measures import Measures
    from rayflow.analytics.telemetry.tail import Tail

    otel = config.monitoring.otel
    service = otel.service_name or os.environ.get(OTEL_SERVICE_NAME, "rayflow")
    resource = Resource.create({"service.name": service, "service.version": config.version})
    headers = {name: value.get_secret_value() for name, value in otel.headers.items()}
    collector = Collector(otel.endpoint, headers, resource)
    tail = Tail(events_folder(config), Path(config.storage.state) / BOOK)
    measures = Measures(resource)
    exporting = Export(tail, collector, measures, otel.metrics_interval_s, SYSTEM_CLOCK)
    try:
        while not stopped.is_set():
            pause_s = LOOK_S
            try:
                if exporting.step():
                    continue
            except OSError as problem:
                log.error("the event log cannot be read: %s", problem)
                pause_s = AWAY_S
            stopped.wait(AWAY_S if exporting.waiting else pause_s)
        exporting.finish()
    finally:
        measures.close()
        collector.close()
        tail.close()


def main() -> None:
    end_with_parent(int(sys.argv[1]))
    os.nice(NICE)
    config = restore(sys.stdin.buffer.read())
    to_file(config, "telemetry")
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    export(config, stopped)


if __name__ == "__main__":
    main()
