"""The processes of a serve command start together, follow the configuration, and end from the outside in."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rayflow.app import family as family_module
from rayflow.app.family import BATCH_MODULE, HOST_MODULE, INGRESS_MODULE, Family
from rayflow.app.jobs.records import JobRecord, JobStore, new_job_id
from rayflow.app.port import Address
from rayflow.app.state import Owned
from rayflow.app.telemetry import MODULE as TELEMETRY_MODULE
from rayflow.config.schema import WorkflowConfig
from rayflow.config.sections.operation import MonitoringConfig, OtelConfig
from rayflow.config.transfer import restore
from rayflow.errors import ConfigurationError, Exit, Unavailable
from rayflow.policies.restart import RestartPolicy

PROCESS = """
import signal, sys
line, code = sys.argv[1:]
signal.signal(signal.SIGTERM, lambda *_: exit(int(code)))
print(line, flush=True)
if code == "dies":
    exit(1)
while True:
    signal.pause()
"""


def workflow(**processing: Any) -> WorkflowConfig:
    return WorkflowConfig.model_validate({"name": "team", "agents": [{"name": "a"}], "processing": processing})


@dataclass
class Home:
    """Starts small processes in place of the real ones, and keeps a diary of starts and ends."""

    run_dir: Path
    host_says: dict[str, Any] = field(default_factory=lambda: {"ready": {"launch": 1.0}})
    codes: dict[str, str] = field(default_factory=dict)
    diary: list[str] = field(default_factory=list)
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    host_configs: list[WorkflowConfig] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    watching: set[asyncio.Task[None]] = field(default_factory=set)

    async def spawn(
        self, module: str, *arguments: str, stdin: bytes | None = None, **_: object
    ) -> asyncio.subprocess.Process:
        name, line = "host", self.host_says
        if module == INGRESS_MODULE:
            name = f"ingress/{arguments[1]}"
            line = {"ready": name}
        elif module in (BATCH_MODULE, TELEMETRY_MODULE):
            name, line = ("batch" if module == BATCH_MODULE else "telemetry"), {}
        else:
            assert module == HOST_MODULE
            assert stdin is not None
            self.host_configs.append(restore(stdin))
        command = (sys.executable, "-c", PROCESS, json.dumps(line), self.codes.get(name, "0"))
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        self.processes[name] = process
        await self.note(f"{name} started")
        self.watching.add(asyncio.create_task(self.watch(name, process)))
        return process

    async def watch(self, name: str, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        await self.note(f"{name} ended")

    async def note(self, entry: str) -> None:
        async with self.changed:
            self.diary.append(entry)
            self.changed.notify_all()

    async def until(self, entry: str, times: int = 1) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.diary.count(entry) >= times)


@pytest.fixture
async def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Home]:
    made = Home(tmp_path)
    monkeypatch.setattr(family_module, "spawn", made.spawn)
    yield made
    await asyncio.gather(*made.watching)


class Told:
    def __init__(self) -> None:
        self.timelines: list[dict[str, float]] = []
        self.once = asyncio.Event()

    def __call__(self, timeline: dict[str, float]) -> None:
        self.timelines.append(timeline)
        self.once.set()


def settled(home: Home, **processing: Any) -> WorkflowConfig:
    config = workflow(ready_grace_s=0.0, **processing)
    return config.model_copy(update={"storage": config.storage.model_copy(update={"state": str(home.run_dir)})})


def family_of(home: Home, told: Told, **processing: Any) -> Family:
    mine, address = Owned(home.run_dir, 0), Address("127.0.0.1", 1)
    return Family(settled(home, **processing), mine, address, None, told)


async def test_it_is_ready_once_when_all_are_and_ends_with_the_host_last(home: Home) -> None:
    told = Told()
    family = family_of(home, told)
    family.start()
    await told.once.wait()
    home.processes["ingress/0"].kill()
    await home.until("ingress/0 started", times=2)
    family.stop()
    await family.over.wait()
    assert await family.end() == Exit.OK
    assert told.timelines == [{"launch": 1.0}]
    assert sorted(home.diary[-3:-1]) == ["ingress/0 ended", "ingress/1 ended"]
    assert home.diary[-1] == "host ended"


async def test_the_batch_process_is_started_for_a_job_and_ends_before_the_host(home: Home) -> None:
    told = Told()
    family = family_of(home, told)
    family.start()
    await told.once.wait()
    assert "batch" not in home.processes
    family.wake_batch()
    await home.until("batch started")
    assert await family.end() == Exit.OK
    assert home.diary[-2:] == ["batch ended", "host ended"]


async def test_a_job_that_waits_from_before_is_taken_up_when_the_system_is_up(home: Home) -> None:
    record = JobRecord(id=new_job_id(), kind="native", tenant="", status="queued", created_s=1)
    JobStore(home.run_dir).create(record, None)
    family = family_of(home, Told())
    family.start()
    await home.until("batch started")
    assert await family.end() == Exit.OK


async def test_telemetry_has_a_process_where_it_is_wanted_which_is_the_last_to_end(home: Home) -> None:
    plain, told = settled(home), Told()
    wanted = plain.model_copy(update={"monitoring": MonitoringConfig(otel=OtelConfig(enabled=True))})
    family = Family(plain, Owned(home.run_dir, 0), Address("127.0.0.1", 1), None, told)
    family.start()
    await told.once.wait()
    assert "telemetry" not in home.processes
    await family.configure(wanted)
    await home.until("telemetry started")
    await family.configure(plain)
    await home.until("telemetry ended")
    await family.configure(wanted)
    await home.until("telemetry started", times=2)
    home.processes["telemetry"].kill()
    await home.until("telemetry started", times=3)
    assert await family.end() == Exit.OK
    assert home.diary[-2:] == ["host ended", "telemetry ended"]


@pytest.mark.parametrize("name", ["ingress/1", "host"])
async def test_work_that_any_of_them_cut_is_told(home: Home, name: str) -> None:
    home.codes[name] = str(int(Exit.PARTIAL))
    told = Told()
    family = family_of(home, told)
    family.start()
    await told.once.wait()
    assert await family.end() == Exit.PARTIAL


async def test_a_new_configuration_changes_the_number_of_ingress_processes_and_is_kept_for_the_host(home: Home) -> None:
    told = Told()
    family = family_of(home, told)
    family.start()
    await told.once.wait()
    assert await family.configure(settled(home, ingress=3)) == (["ingress/2"], [])
    await home.until("ingress/2 started")
    assert await family.configure(settled(home, ingress=1)) == ([], ["ingress/1", "ingress/2"])
    await home.until("ingress/1 ended")
    await home.until("ingress/2 ended")
    home.processes["host"].kill()
    await home.until("host started", times=2)
    assert [config.processing.ingress for config in home.host_configs] == [2, 1]
    assert await family.end() == Exit.OK


async def test_a_host_that_cannot_start_is_the_end_and_says_why(home: Home) -> None:
    home.host_says = {"error": "no such key", "slug": "config-invalid"}
    family = family_of(home, Told())
    family.start()
    await family.over.wait()
    with pytest.raises(ConfigurationError, match="no such key"):
        await family.end()


async def test_an_ingress_that_cannot_be_kept_running_is_the_end(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family_module, "INGRESS_RESTARTS", RestartPolicy(intensity=0))
    home.codes["ingress/0"] = "dies"
    family = family_of(home, Told())
    family.start()
    await family.over.wait()
    with pytest.raises(Unavailable, match="ingress/0 died 1 times"):
        await family.end()
