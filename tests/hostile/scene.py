"""A log of several tenants, files that must stay secret, and the HTTP service in front of them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2

from rayflow.analytics.analyst import Analyst
from rayflow.analytics.log import SegmentLog
from rayflow.analytics.segments import SegmentWriter
from rayflow.api.http import create_app
from rayflow.app.system import InProcessSystem
from rayflow.config.schema import WorkflowConfig
from rayflow.events import Event, encode_lines
from rayflow.messages import EventBatch

CANARY = "canary-of-a-secret"
"""In everything that no answer may contain: files, the environment, rows of others."""
KEYS = {"acme": "rf_key_of_acme", "globex": "rf_key_of_globex", "": "rf_key_of_the_operator"}
NOON_US = 1_763_726_400_000_000
RUNS = 300


class Scene:
    """Lives in `folder`. `limits`: keys of `monitoring`."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        self.folder = folder
        self.events = folder / "state" / "events"
        self.secret = folder / "secret.csv"
        self.target = folder / "target"
        self.secret.write_text(f"name,word\nkey,{CANARY}\n")
        os.environ["RAYFLOW_SECRET"] = CANARY
        _write_log(self.events)
        self.config = WorkflowConfig.model_validate(
            {
                "name": "team",
                "agents": [{"name": "facts"}],
                "storage": {"state": str(folder / "state")},
                "monitoring": {"event_log": False, **limits},
                "security": {"api_keys": [KEYS[""]]},
                "tenants": [{"name": name, "api_keys": [key]} for name, key in KEYS.items() if name],
            }
        )
        self.analyst = Analyst(self.events, self.config.monitoring.sql_sandbox, self.config.monitoring.sql_at_once)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[httpx2.AsyncClient]:
        system = InProcessSystem(self.config)
        async with system:
            app = create_app(await system.client("ingress"), analyst=self.analyst)
            transport = httpx2.ASGITransport(app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://test", timeout=120) as http:
                yield http
            await self.analyst.close()

    def written(self, sql: str) -> str:
        """A statement with the places of this scene."""
        places = {"$SECRET": self.secret, "$EVENTS": self.events, "$TARGET": self.target}
        for name, place in places.items():
            sql = sql.replace(name, str(place))
        return sql

    def digests(self) -> dict[str, str]:
        """Of all files there are; what readers note of files they found whole may change."""
        return {
            str(path): sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.name != ".verified" and path.is_relative_to(self.events.parent / "events")
        } | {str(path): "" for path in sorted(self.folder.iterdir())}


def _write_log(root: Path) -> None:
    """Most of it in Parquet, the last runs in an open segment."""
    events = [event for n in range(RUNS) for event in _run(n)]
    half = len(events) // 2
    SegmentWriter(root, "eventlog/0").write(events[:half])
    SegmentWriter(root, "eventlog/0").write(events[half:-60])
    log = SegmentLog(root, "eventlog/0", 1 << 30, 3600.0)
    log.append([EventBatch("router/0", 0, 60, encode_lines(events[-60:]))])
    log.close()


def _run(n: int) -> list[Event]:
    tenant = ("acme", "globex", "")[n % 3]
    word = "plain" if tenant == "acme" else CANARY
    at = NOON_US + n * 1_000_000
    about: dict[str, Any] = {"run_id": f"run-{tenant or 'nobody'}-{n}", "tenant": tenant, "session_id": f"{word}-{n}"}
    return [
        Event("run.started", at, workflow="team", **about),
        Event("turn.committed", at + 1, data={"turn": n, "role": "user", "word": word}, content=word, **about),
        Event("agent.finished", at + 2, agent="facts", status="ok", duration_ms=float(n), **about),
        Event("run.finished", at + 3, workflow="team", status="ok", duration_ms=float(n), error_message=word, **about),
    ]
