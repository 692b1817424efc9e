"""What is recorded, who may do what, and where things are kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from rayflow.config.sections.base import Section


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
