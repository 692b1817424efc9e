"""A reload happens in the process that serves, one at a time, and either wholly or not at all."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

import pytest

from rayflow.app.attach import reload_running
from rayflow.app.control import ask_reload
from rayflow.app.reload import ask_coordinator, reloadable
from rayflow.app.state import RunFile, owned, write_run_file
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.config.load import load
from rayflow.config.schema import WorkflowConfig
from rayflow.config.transfer import restore
from rayflow.errors import ConfigurationError, DeadlineExceeded, Unavailable, WorkflowError
from rayflow.messages import Reconfigure, Reconfigured
from rayflow.runtime.roster import COORDINATOR

CHANGED = Reconfigured(["agent/a/0"], ["router/1"], ["agent/b/0"])


class Serving:
    """What a serve command does when it reloads: reads `file`, and answers `outcome`."""

    def __init__(self, folder: Path) -> None:
        self.run_dir = folder
        self.file = folder / "team.yaml"
        self.file.write_text("name: team\nagents:\n  - name: a\n")
        self.outcome: Reconfigured | Exception = CHANGED
        self.gone_over: list[WorkflowConfig] = []
        self.went = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    def read(self, other: Path | None) -> WorkflowConfig:
        return load(other or self.file)

    async def go_over(self, config: WorkflowConfig) -> Reconfigured:
        self.gone_over.append(config)
        self.went.set()
        await self.go_on.wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    return Serving(tmp_path)


async def test_a_command_hears_what_has_changed(serving: Serving) -> None:
    async with reloadable(serving.run_dir, serving.read, serving.go_over):
        assert await ask_reload(serving.run_dir, None) == CHANGED
        other = serving.run_dir / "other.yaml"
        other.write_text("name: other\nagents:\n  - name: a\n")
        assert await ask_reload(serving.run_dir, other) == CHANGED
    assert [config.name for config in serving.gone_over] == ["team", "other"]


async def test_a_relative_file_is_that_of_the_command(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.chdir(serving.run_dir)

    def read(other: Path | None) -> WorkflowConfig:
        seen.append(other)
        return serving.read(other)

    async with reloadable(serving.run_dir, read, serving.go_over):
        await ask_reload(serving.run_dir, Path("team.yaml"))
    assert seen == [serving.file]


async def test_a_wrong_file_is_refused_with_the_place_and_nothing_happens(serving: Serving) -> None:
    serving.file.write_text("name: team\nagents:\n  - name: a\n    modle: x\n")
    async with reloadable(serving.run_dir, serving.read, serving.go_over):
        with pytest.raises(ConfigurationError, match=r"team\.yaml:4:5.*(\n.*)*did you mean") as caught:
            await ask_reload(serving.run_dir, None)
    assert caught.value.details["problems"]
    assert serving.gone_over == []


@pytest.mark.parametrize("error", [ConfigurationError("name needs a restart", keys=["name"]), DeadlineExceeded("slow")])
async def test_what_the_coordinator_refuses_reaches_the_command(serving: Serving, error: WorkflowError) -> None:
    serving.outcome = error
    async with reloadable(serving.run_dir, serving.read, serving.go_over):
        with pytest.raises(type(error), match=error.message) as caught:
            await ask_reload(serving.run_dir, None)
    assert caught.value.details == error.details


async def test_an_error_that_nobody_foresaw_is_logged_and_not_told(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    serving.outcome = RuntimeError("secret")
    async with reloadable(serving.run_dir, serving.read, serving.go_over):
        with pytest.raises(WorkflowError, match="RuntimeError"):
            await ask_reload(serving.run_dir, None)
    assert "secret" in caplog.text


async def test_reloads_wait_for_one_another(serving: Serving) -> None:
    inside: list[WorkflowConfig] = []

    async def go_over(config: WorkflowConfig) -> Reconfigured:
        inside.append(config)
        await asyncio.sleep(0)
        assert inside.pop() is config
        assert not inside
        return CHANGED

    async with reloadable(serving.run_dir, serving.read, go_over):
        assert await asyncio.gather(*(ask_reload(serving.run_dir, None) for _ in range(5))) == [CHANGED] * 5


async def test_a_command_that_leaves_does_not_stop_what_it_asked_for(serving: Serving) -> None:
    serving.go_on.clear()
    async with reloadable(serving.run_dir, serving.read, serving.go_over):
        asking = asyncio.create_task(ask_reload(serving.run_dir, None))
        await serving.went.wait()
        asking.cancel()
        await asyncio.wait([asking])
        serving.go_on.set()
        assert await ask_reload(serving.run_dir, None) == CHANGED
    assert len(serving.gone_over) == 2


async def test_a_hang_up_reloads_and_an_error_leaves_everything_as_it_was(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with reloadable(serving.run_dir, serving.read, serving.go_over):
        os.kill(os.getpid(), signal.SIGHUP)
        await serving.went.wait()
        serving.outcome = ConfigurationError("name needs a restart")
        serving.went.clear()
        os.kill(os.getpid(), signal.SIGHUP)
        await serving.went.wait()
        serving.outcome = CHANGED
        await ask_reload(serving.run_dir, None)
    assert "reloaded: Reconfigured(replaced=['agent/a/0']" in caplog.text
    assert "the old configuration stays: name needs a restart" in caplog.text


async def test_nothing_that_runs_is_nothing_to_reload(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="nothing runs on the state folder"):
        await reload_running(tmp_path, None)
    with owned(tmp_path) as mine:
        write_run_file(tmp_path, RunFile(os.getpid(), str(mine.run_dir), "batch job"))
        with pytest.raises(Unavailable, match="only what `rayflow serve` started can reload"):
            await reload_running(tmp_path, None)


async def test_the_coordinator_is_asked_with_the_whole_configuration(serving: Serving) -> None:
    fabric, asked = InProcessFabric(), []

    def reconfigure(message: Reconfigure) -> Reconfigured:
        asked.append(restore(message.config))
        return CHANGED

    fabric.bind(COORDINATOR, {Reconfigure: reconfigure})
    config = serving.read(None)
    assert await ask_coordinator(fabric, config) == CHANGED
    assert asked == [config]
