"""What actors are made of: what must not be put together is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayflow.app.build import build_actor
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.config.load import from_dict
from rayflow.config.transfer import dump
from rayflow.errors import ConfigurationError, WorkflowError


def config(state: Path, shards: int) -> bytes:
    data = {"name": "w", "agents": [{"name": "a"}], "session": {"shards": shards}, "storage": {"state": str(state)}}
    return dump(from_dict(data))


async def test_another_number_of_shards_than_before_is_refused(tmp_path: Path) -> None:
    store = build_actor("session", "session/0", config(tmp_path, 1), InProcessFabric())
    await store.start()
    await store.stop()
    with pytest.raises(ConfigurationError, match="written with 1"):
        build_actor("session", "session/0", config(tmp_path, 2), InProcessFabric())


async def test_an_unknown_role_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match="no role 'boss'"):
        build_actor("boss", "boss/0", config(tmp_path, 1), InProcessFabric())
