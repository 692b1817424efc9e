"""A system in a few lines: answers at once or when told to, remembers what it was asked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rayflow.batch.directory import JobDirectory
from rayflow.batch.export import rows_of
from rayflow.batch.inputs.source import Source
from rayflow.batch.row import Row
from rayflow.batch.run import JobRun
from rayflow.batch.spec import Inputs, JobSpec, Limits
from rayflow.chat import Usage
from rayflow.config.schema import AgentConfig, ModelConfig, WorkflowConfig
from rayflow.events import Event
from rayflow.messages import PartSummary, RunRequest, RunResult

CONFIG = WorkflowConfig(
    name="bench",
    agents=[AgentConfig(name="echo", model="priced")],
    models=[ModelConfig(name="priced", price_prompt=1.0, price_completion=2.0), ModelConfig(name="offline")],
)


class ScriptedClient:
    """Answers `echo: <turn>` from agent `echo`, after waiting for `gate`; or fails with the next of `failures`."""

    def __init__(self) -> None:
        self.config = CONFIG
        self.calls: list[RunRequest] = []
        self.events: list[Event] = []
        self.in_flight = 0
        self.peak = 0
        self.failures: dict[str, Iterator[Exception]] = {}
        self.gate: Callable[[RunRequest], asyncio.Future[None] | None] = lambda request: None
        self.answer: Callable[[str], str] = lambda text: f"echo: {text}"

    async def run(self, request: RunRequest, timeout_s: float | None = None) -> RunResult:
        text = request.messages[-1].text
        self.calls.append(request)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await (self.gate(request) or asyncio.sleep(0))
            if failure := next(self.failures.get(text, iter(())), None):
                raise failure
            return RunResult(
                request.run_id,
                request.session_id,
                self.answer(text),
                "stop",
                Usage(3, 5),
                "offline",
                ["echo"],
                parts=[PartSummary("echo", "ok", usage=Usage(3, 5))],
            )
        finally:
            self.in_flight -= 1

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def now_us(self) -> int:
        return 1_700_000_000_000_000

    def asked(self) -> list[str]:
        return [call.messages[-1].text for call in self.calls]

    def emitted(self) -> list[str]:
        return [event.kind for event in self.events]


class Bench:
    """A dataset and the folder of a job in a temporary directory."""

    def __init__(self, path: Path) -> None:
        self.input = path / "rows.jsonl"
        self.directory = JobDirectory(path / "out")
        self.client = ScriptedClient()

    def write(self, *lines: object) -> None:
        """Objects become JSON; bytes are taken as they are."""
        data = [line if isinstance(line, bytes) else msgspec.json.encode(line) for line in lines]
        self.input.write_bytes(b"\n".join(data) + b"\n")

    def prompts(self, number: int) -> None:
        self.write(*({"id": f"q{n}", "prompt": f"prompt {n}"} for n in range(1, number + 1)))

    def spec(self, *, concurrency: int = 4, limits: dict[str, Any] | None = None, **facts: Any) -> JobSpec:
        return JobSpec(Inputs([str(self.input)]), limits=Limits(concurrency=concurrency, **(limits or {})), **facts)

    def job(
        self, spec: JobSpec | None = None, *, retry_failed: bool = False, overwrite: bool = False, **facts: Any
    ) -> JobRun:
        spec = spec or self.spec(**facts)
        job = self.directory.plan(spec, self.client.now_us(), overwrite=overwrite)
        source = Source(spec.inputs, whole=bool(spec.selection.where))
        return JobRun(self.client, self.directory, job, source, retry_failed=retry_failed, overwrite=overwrite)

    def rows(self) -> list[Row]:
        return list(rows_of(self.directory))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="session")
def public_data() -> Path:
    """Public datasets that are no part of this repository."""
    beside = Path(__file__).parents[4] / "shared" / "data"
    path = Path(os.environ.get("RAYFLOW_TEST_DATA", beside))
    if not path.is_dir():
        pytest.skip(f"no public data at {path}; set RAYFLOW_TEST_DATA to its folder")
    return path
