"""Whoever joins a running system may have to join again."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayflow.app.system import attach
from rayflow.cluster.site import Site
from rayflow.config.schema import AgentConfig, WorkflowConfig
from rayflow.config.transfer import dump
from rayflow.errors import Unavailable
from rayflow.messages import Directory, Join, Welcome
from rayflow.runtime.roster import COORDINATOR

CONFIG = dump(WorkflowConfig(name="team", agents=[AgentConfig(name="a")]))


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A short path: names of unix sockets have a limit."""
    with tempfile.TemporaryDirectory(prefix="rf-") as folder:
        (Path(folder) / "secret").write_bytes(secrets.token_bytes(32))
        yield Path(folder)


async def test_a_process_that_was_given_up_once_can_join_again(run_dir: Path) -> None:
    """Its first question is answered too late, and by then the coordinator has declared it dead."""
    site = Site(run_dir, (run_dir / "secret").read_bytes(), "node")
    site.announce()
    heard: list[Join] = []
    retired: list[str] = []
    answer = asyncio.Event()
    fabric = site.listening(site.coordinator.endpoint)

    async def join(message: Join) -> Welcome:
        heard.append(message)
        await answer.wait()
        return Welcome(CONFIG, Directory(len(retired), [site.coordinator], retired))

    def lost(endpoint: str) -> None:
        retired.append(endpoint)
        fabric.directory.update(Directory(len(retired), [site.coordinator], retired))

    fabric.bind(COORDINATOR, {Join: join})
    fabric.on_lost(lost)
    await fabric.start()
    try:
        with pytest.raises(Unavailable):
            await attach(run_dir, "ingress/0", "ingress", patience_s=0.05)
        async with asyncio.timeout(10):
            while not retired:
                await asyncio.sleep(0.01)
        answer.set()
        member, client = await attach(run_dir, "ingress/0", "ingress", patience_s=10)
        assert client.config.name == "team"
        assert heard[-1].entry.epoch > heard[0].entry.epoch
        await member.close()
    finally:
        await fabric.close()
    assert [path.name for path in run_dir.glob("*.sock")] == []
