"""The system on a real Ray, driven from Python: names, healing, joining a cluster that runs already."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support.served import Served, served

from rayflow.app.orchestrator import Orchestrator
from rayflow.app.state import owned
from rayflow.app.system import RaySystem
from rayflow.chat import Message
from rayflow.config.load import from_dict
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import WorkflowError
from rayflow.ids import new_run_id, new_session_id
from rayflow.messages import ActorStatus, GetStatus, RunRequest, Status
from rayflow.runtime.roster import COORDINATOR

HEAD = "127.0.0.2:6399"


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
            assert os.getpriority(os.PRIO_PROCESS, victim.pid) == os.getpriority(os.PRIO_PROCESS, 0)
            os.kill(victim.pid, signal.SIGKILL)
            async with asyncio.timeout(20):
                while (now := (await actors(system))["agent/one/0"]).pid == victim.pid or now.state != "ready":
                    # Meanwhile the other replica answers; the call that was in flight may have failed.
                    await asyncio.gather(client.run(request("hello")), return_exceptions=True)
            assert now.restarts == 1
            for _ in range(4):
                assert (await client.run(request("hello"))).content
        assert not ray.is_initialized()


@pytest.fixture
def head() -> Iterator[psutil.Process]:
    """A Ray cluster that lives by itself, at HEAD. Ray ends a process that joins it before it is whole."""
    folder = Path("/tmp") / f"rf-{os.getpid()}"
    host, _, port = HEAD.partition(":")
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", port]
    options = {"num-cpus": "2", "include-dashboard": "false", "temp-dir": str(folder), "node-ip-address": host}
    process = subprocess.Popen(
        [*command, *(word for name, value in options.items() for word in (f"--{name}", value))],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    raylet = folder / "session_latest" / "sockets" / "raylet"
    try:
        wait_until(lambda: listens(HEAD) and raylet.exists())
        yield psutil.Process(process.pid)
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


async def test_a_running_cluster_is_joined_and_left_clean(head: psutil.Process, tmp_path: Path) -> None:
    orchestrator = Orchestrator(workflow(tmp_path), address=HEAD)
    await orchestrator.initialize()
    try:
        result = await orchestrator.process_chat("My order number is 48213.", user_id="ada")
        again = await orchestrator.process_chat("What was my order number?", session_id=result.metadata["session_id"])
        assert "48213" in again.content
    finally:
        await orchestrator.shutdown()
    wait_until(lambda: not ours(head))


def test_a_joined_system_outlives_its_host_and_not_its_owner(head: psutil.Process, tmp_path: Path) -> None:
    with served("--address", HEAD, cwd=tmp_path) as server:
        _, session = server.chat("My order number is 48213.")
        before = ours(head)
        assert len(before) == 8
        hosts(server)[0].kill()
        answer, _ = server.chat("What was my order number?", session)
        assert "48213" in answer
        wait_until(lambda: bool(hosts(server)))
        time.sleep(3)
        assert ours(head) == before, "the next host found them"
        server.kill()
        wait_until(lambda: not ours(head))


def hosts(server: Served) -> list[psutil.Process]:
    """The process that drives Ray for `rayflow serve`."""
    found = []
    for process in server.family():
        with suppress(psutil.Error):  # it is ending
            if "rayflow.app.host" in " ".join(process.cmdline()):
                found.append(process)
    return found


def ours(head: psutil.Process) -> set[int]:
    """Process ids of rayflow's actors on the cluster."""
    titles = tuple(f"ray::{t}" for t in ("Coordinator", "EventLog", "SessionStore", "Aggregator", "Agent", "Router"))
    found = set()
    for process in head.children(recursive=True):
        with suppress(psutil.Error):  # it is ending
            if process.name().startswith(titles):
                found.add(process.pid)
    return found


def listens(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True


def wait_until(condition: Callable[[], bool], patience_s: float = 40) -> None:
    until = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.1)


async def test_a_cluster_that_is_not_there_is_said_in_plain_words(tmp_path: Path) -> None:
    with pytest.raises(WorkflowError, match=r"cannot start or join the Ray cluster at 127\.0\.0\.1:1"):
        async with Orchestrator(workflow(tmp_path), address="127.0.0.1:1"):
            raise AssertionError
