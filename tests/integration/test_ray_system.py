"""The system on a real Ray, driven from Python: names, healing, joining a cluster that runs already."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rayflow.app.orchestrator import Orchestrator
from rayflow.app.state import owned
from rayflow.app.system import RaySystem
from rayflow.chat import Message
from rayflow.config.load import from_dict
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import Unavailable, WorkflowError
from rayflow.ids import new_run_id, new_session_id
from rayflow.messages import ActorStatus, GetStatus, RunRequest, Status
from rayflow.runtime.roster import COORDINATOR


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A local Ray sets its token's place in the environment; the next test must not inherit it."""
    for name in [name for name in os.environ if name.startswith("RAY_AUTH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


def workflow(state: Path) -> WorkflowConfig:
    agents = [{"name": "one", "replicas": {"min": 2, "max": 2}}, {"name": "two"}]
    return from_dict({"name": "w", "agents": agents, "storage": {"state": str(state)}})


def request(text: str) -> RunRequest:
    return RunRequest(new_run_id(), new_session_id(), [Message("user", text)], agent="one")


async def actors(system: RaySystem) -> dict[str, ActorStatus]:
    status: Status = await system.fabric.ask(COORDINATOR, GetStatus(), 5)
    return {actor.address: actor for actor in status.actors}


async def test_actors_have_readable_names_and_a_killed_one_is_replaced(tmp_path: Path) -> None:
    import ray
    from ray.util import list_named_actors

    with owned(tmp_path) as mine:
        async with RaySystem(workflow(tmp_path), mine.run_dir) as system:
            names = {entry["name"] for entry in list_named_actors(all_namespaces=True)}
            assert names == {
                "rayflow/coordinator",
                "rayflow/eventlog/0#1",
                "rayflow/session/0#1",
                "rayflow/aggregator/0#1",
                "rayflow/agent/one/0#1",
                "rayflow/agent/one/1#1",
                "rayflow/agent/two/0#1",
                "rayflow/router/0#1",
            }
            client = await system.client("test")
            await client.run(request("hello"))

            victim = (await actors(system))["agent/one/0"]
            os.kill(victim.pid, signal.SIGKILL)
            async with asyncio.timeout(20):
                while (now := (await actors(system))["agent/one/0"]).pid == victim.pid or now.state != "ready":
                    # Meanwhile the other replica answers; the call that was in flight may have failed.
                    await asyncio.gather(client.run(request("hello")), return_exceptions=True)
            assert now.restarts == 1
            for _ in range(4):
                assert (await client.run(request("hello"))).content
        assert not ray.is_initialized()


async def test_a_running_cluster_is_joined_and_left_clean(tmp_path: Path) -> None:
    folder = Path("/tmp") / f"rf-{os.getpid()}"
    head = subprocess.Popen(
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", "6399"),
            *(
                "--num-cpus",
                "2",
                "--include-dashboard",
                "false",
                "--temp-dir",
                str(folder),
                "--node-ip-address",
                "127.0.0.2",
            ),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        orchestrator = Orchestrator(workflow(tmp_path), address="127.0.0.2:6399")
        async with asyncio.timeout(60):
            while True:
                try:
                    await orchestrator.initialize()
                    break
                except Unavailable:
                    await asyncio.sleep(0.5)
        try:
            result = await orchestrator.process_chat("My order number is 48213.", user_id="ada")
            again = await orchestrator.process_chat(
                "What was my order number?", session_id=result.metadata["session_id"]
            )
            assert "48213" in again.content
        finally:
            await orchestrator.shutdown()
        assert head.poll() is None
    finally:
        head.terminate()
        head.wait(30)
        subprocess.run(["rm", "-rf", str(folder)], check=True)


async def test_a_cluster_that_is_not_there_is_said_in_plain_words(tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match=r"cannot start or join the Ray cluster at 127\.0\.0\.1:1"):
        async with Orchestrator(workflow(tmp_path), address="127.0.0.1:1"):
            raise AssertionError
