"""What is recorded, who may do what, and where things are kept."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from rayflow.config.sections.base import Mismatch, ReferenceProblems, Section


def _usable(pattern: str) -> str:
    from rayflow.config.patterns import problem

    if why := problem(pattern):
        raise ReferenceProblems([Mismatch("", f"a pattern that RE2 takes ({why})", repr(pattern[:60]))])
    return pattern


RedactPattern = Annotated[str, AfterValidator(_usable)]


def _base(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s?#]+", url):
        raise ReferenceProblems([Mismatch("", "a URL such as http://collector:4318, without a query", repr(url[:60]))])
    return url


Base = Annotated[str, AfterValidator(_base)]
"""A URL that paths are added to."""


class OtelConfig(Section):
    """Spans and metrics for an OpenTelemetry collector, made from the event log by a process of its own; needs the
    extra `otel`."""

    enabled: bool = False
    """Send them."""
    endpoint: Annotated[Base, Field(max_length=500)] | None = None
    """Where the collector takes OTLP over HTTP: `/v1/traces` and `/v1/metrics` are added. Unset:
    OTEL_EXPORTER_OTLP_ENDPOINT from the environment, or http://localhost:4318."""
    headers: Annotated[dict[str, SecretStr], Field(max_length=20)] = {}
    """Headers of each request, such as an API key; write them as `"${NAME}"`. None: those in
    OTEL_EXPORTER_OTLP_HEADERS."""
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the runs that are traced, of those whose clients sent no trace of their own: for the others the client
    has decided. Metrics count all."""
    service_name: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    """The attribute `service.name`. Unset: OTEL_SERVICE_NAME, or rayflow."""
    metrics_interval_s: Annotated[float, Field(ge=1, le=3600)] = 10.0
    """How often metrics are sent; spans are sent within about two seconds."""


class MonitoringConfig(Section):
    """What is recorded."""

    event_log: bool = True
    """Write events to disk."""
    flush_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    """Events are on disk and visible to queries after at most about this long."""
    max_buffered_events: Annotated[int, Field(ge=1000)] = 20_000
    """Events that each process keeps in memory while the disk does not take them; beyond this the oldest are dropped,
    and counted."""
    roll_bytes: Annotated[int, Field(ge=1 << 16, le=1 << 30)] = 1 << 26
    """Size at which the file that events are appended to is rolled to Parquet."""
    roll_s: Annotated[float, Field(ge=1)] = 300.0
    """Age at which it is, seconds."""
    retention_days: Annotated[float, Field(ge=0)] = 7.0
    """Events older than this are deleted, on cold storage, too; 0 keeps them for ever."""
    cold_after_days: Annotated[float, Field(ge=0)] = 1.0
    """Age at which events move to `storage.cold_events`, where that is set."""
    interval_s: Annotated[float, Field(ge=5, le=3600)] = 60.0
    """How often the load of the machine is put into the event log."""
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    """Level of the processes' own logs."""
    log_format: Literal["text", "json"] = "text"
    """What a line of them is: text for the eye, or a JSON object that also says which run, session and trace it is
    about."""
    capture: Literal["none", "hashed", "redacted", "full"] = "none"
    """What the event log keeps of questions and answers. none: nothing. hashed: a SHA-256 that shows which are equal.
    redacted: the text without e-mail addresses, passwords, API keys and bearer tokens, as far as patterns find them.
    full: the text."""
    capture_max_chars: Annotated[int, Field(ge=100, le=1_000_000)] = 16_384
    """Of each text, so many characters are kept; the event says how many there were."""
    redact_patterns: Annotated[list[RedactPattern], Field(max_length=100)] = []
    """Patterns (RE2 syntax, at most 1 KiB each) of what else is replaced in captured text and in error messages."""
    otel: OtelConfig = OtelConfig()

    sql_sandbox: Literal["required", "best_effort"] = "required"
    """What SQL over HTTP runs in. required: only where the kernel keeps it from the network and from all files but
    those of the event log; elsewhere it is refused. best_effort: with as much of that as the kernel has, for machines
    whose clients are trusted. `rayflow doctor` tells what there is."""
    sql_timeout_s: Annotated[float, Field(ge=0.1, le=3600)] = 10.0
    """Longest time of a question over HTTP."""
    sql_memory_bytes: Annotated[int, Field(ge=1 << 28, le=1 << 40)] = 1 << 29
    """Most memory of the process that answers it."""
    sql_max_rows: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """Most rows of an answer over HTTP; the answer says when there were more."""
    sql_max_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 1 << 24
    """Largest answer over HTTP."""
    sql_at_once: Annotated[int, Field(ge=1, le=64)] = 2
    """Questions over HTTP that each ingress process has answered at the same time. Some more wait, the rest is refused
    (503)."""

    @model_validator(mode="after")
    def _telemetry_has_a_source(self) -> MonitoringConfig:
        if self.otel.enabled and not self.event_log:
            raise ReferenceProblems([Mismatch("otel.enabled", "false without monitoring.event_log", "true")])
        return self


CallbackHost = Annotated[
    str, Field(pattern=r"^(http://)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$", max_length=300)
]


class SecurityConfig(Section):
    """Who may do what."""

    api_keys: list[SecretStr] = []
    """Keys that clients send as `Authorization: Bearer KEY`; write them as `"${NAME}"`. Empty: no key is asked for, and
    the server listens on loopback only."""
    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 1 << 20
    """Largest request body."""
    max_json_depth: Annotated[int, Field(ge=4, le=512)] = 64
    """Deepest nesting of a request body."""
    callback_hosts: list[CallbackHost] = []
    """Hosts of your own network that callbacks and webhooks may be sent to: `HOST` or `HOST:PORT`, and with `http://`
    in front also without TLS. All others must have public addresses and speak https."""
    websocket_origins: list[Annotated[str, Field(pattern=r"^https?://[^/\s]+$")]] = []
    """Sites whose pages may open a WebSocket, as `https://chat.example.com`. Empty: those of this computer and, where
    keys are asked for, the one that has the server's own address."""
    websocket_runs: Annotated[int, Field(ge=1, le=1000)] = 8
    """Runs that one WebSocket may have under way."""
    websocket_messages_per_s: Annotated[float, Field(gt=0, le=100_000)] = 20.0
    """Messages that one WebSocket may send in the long run, and twice as many at once."""
    websocket_idle_s: Annotated[float, Field(gt=0, le=604_800)] = 3600.0
    """A WebSocket on which nothing was asked for so long is closed."""
    websocket_compression: bool = False
    """Compress WebSocket messages for clients that offer it (RFC 7692): fewer bytes, more CPU and memory for each."""


class StorageConfig(Section):
    """Where things are kept."""

    state: str = ".rayflow"
    """State folder: sessions, events, run files. Relative to the working directory."""
    events: str | None = None
    """Folder of the event log; unset: `events` in the state folder."""
    cold_events: str | None = None
    """Where old events go: the URI of a folder on any file system that Arrow knows, such as `s3://bucket/events`,
    `gs://bucket/events` or `file:///mnt/archive`. Queries read them there."""
