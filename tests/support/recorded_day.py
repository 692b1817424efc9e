"""A day of a small team, recorded by the system itself: all actors in this process, the real log on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from rayflow.analytics.database import open_log
from rayflow.app.attach import settled
from rayflow.app.build import Models
from rayflow.app.client import SystemClient
from rayflow.app.system import InProcessSystem
from rayflow.chat import Message
from rayflow.config.load import from_dict
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import WorkflowError
from rayflow.ids import new_run_id
from rayflow.messages import RunRequest
from rayflow.replay.replay import AS_RECORDED, Choice, How, replay
from rayflow.replay.report import Summary

ALL = Choice("2020-01-01T00:00:00+00:00", "2100-01-01T00:00:00+00:00")

Said = tuple[str, str]
"""Session and message."""

TEAM: dict[str, Any] = {
    "name": "team",
    "agents": [
        {"name": "general", "model": "cheap"},
        {"name": "billing", "model": "dear", "type": "specialist"},
        {"name": "technical", "model": "cheap"},
        {"name": "sales", "model": "cheap"},
    ],
    "models": [
        {"name": "cheap", "provider": "offline", "price_prompt": 1.0, "price_completion": 2.0},
        {"name": "dear", "provider": "offline", "price_prompt": 10.0, "price_completion": 20.0},
    ],
    "routing": {
        "default_agent": "general",
        "rules": [
            {"keywords": ["refund", "invoice"], "target_agent": "billing"},
            {"keywords": ["error", "crash"], "target_agent": "technical"},
            {"keywords": ["offer"], "target_agents": ["sales", "general"]},
        ],
    },
    "monitoring": {"capture": "full", "flush_s": 0.05},
    "processing": {"drain_s": 1.0},
}


def changed(team: Mapping[str, Any] = TEAM, **sections: Any) -> dict[str, Any]:
    """The team with other sections."""
    return {**deepcopy(dict(team)), **sections}


def configured(team: Mapping[str, Any], folder: Path) -> WorkflowConfig:
    return from_dict({**team, "storage": {"state": str(folder)}})


async def recorded(
    folder: Path,
    said: Sequence[Said],
    team: Mapping[str, Any] = TEAM,
    models: Models | None = None,
    before: Sequence[Message] = (),
    **fields: Any,
) -> dict[str, str]:
    """Have the team answer all of it, the messages of one session in their order, each with those `before` it. Run ids
    and their messages."""
    texts: dict[str, str] = {}

    async def talk(client: SystemClient, session: str) -> None:
        for text in [text for whose, text in said if whose == session]:
            run_id = new_run_id()
            texts[run_id] = text
            messages = [*before, Message("user", text)]
            streamed = client.address if fields.get("stream") else ""
            request = RunRequest(run_id, session, messages, user_id="ada", client=streamed, **fields)
            with suppress(WorkflowError):
                async for _ in client.batches(request):
                    pass

    async with InProcessSystem(settled(configured(team, folder), None), models) as system:
        client = await system.client("user")
        await asyncio.gather(*(talk(client, session) for session in dict.fromkeys(session for session, _ in said)))
        client.close()
    return texts


async def replayed(
    folder: Path,
    team: Mapping[str, Any],
    out: Path,
    how: How = AS_RECORDED,
    choice: Choice = ALL,
    sessions_of: Any = None,
) -> tuple[Summary, dict[str, dict[str, Any]]]:
    """The summary, and the rows of the table by run."""
    with open_log(folder / "events") as log:
        summary = await replay(log, configured(team, folder / "unused"), out, choice, how, sessions_of)
    return summary, rows(out)


def rows(out: Path) -> dict[str, dict[str, Any]]:
    import pyarrow.parquet as pq

    table = pq.read_table(out / "diff.parquet").drop_columns(["started"])
    return {row["run_id"]: row for row in table.to_pylist()}
