"""A system in a few lines: answers at once or when told to, remembers what it was asked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from rayflow.batch.engine import BatchJob
from rayflow.batch.folder import JobFolder
from rayflow.batch.row import Row
from rayflow.batch.source import Source
from rayflow.chat import Usage
from rayflow.events import Event
from rayflow.messages import RunRequest, RunResult


class ScriptedClient:
    """Answers `echo: <turn>` from agent `echo`, after waiting for `gate`; or fails with the next of `failures`."""

    def __init__(self) -> None:
        self.calls: list[RunRequest] = []
        self.events: list[Event] = []
        self.in_flight = 0
        self.peak = 0
        self.failures: dict[str, Iterator[Exception]] = {}
        self.gate: Callable[[RunRequest], asyncio.Future[None] | None] = lambda request: None

    async def run(self, request: RunRequest, timeout_s: float | None = None) -> RunResult:
        text = request.messages[0].text
        self.calls.append(request)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await (self.gate(request) or asyncio.sleep(0))
            if failure := next(self.failures.get(text, iter(())), None):
                raise failure
            return RunResult(
                request.run_id, request.session_id, f"echo: {text}", "stop", Usage(3, 5), "offline", ["echo"]
            )
        finally:
            self.in_flight -= 1

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def now_us(self) -> int:
        return 1_700_000_000_000_000

    def asked(self) -> list[str]:
        return [call.messages[0].text for call in self.calls]


async def no_wait(seconds: float) -> None:
    await asyncio.sleep(0)


class Bench:
    """A dataset and a result folder in a temporary directory."""

    def __init__(self, path: Path) -> None:
        self.input = path / "items.jsonl"
        self.folder = JobFolder(path / "out")
        self.client = ScriptedClient()

    def write(self, *lines: object) -> None:
        """Objects become JSON; bytes are taken as they are."""
        data = [line if isinstance(line, bytes) else msgspec.json.encode(line) for line in lines]
        self.input.write_bytes(b"\n".join(data) + b"\n")

    def prompts(self, number: int) -> None:
        self.write(*({"id": f"q{n}", "prompt": f"prompt {n}"} for n in range(1, number + 1)))

    def job(self, limit: int | None = None, concurrency: int = 4, **options: bool) -> BatchJob:
        source = Source(self.input, limit=limit)
        return BatchJob(self.client, source, self.folder, concurrency=concurrency, sleep=no_wait, **options)

    def rows(self) -> list[Row]:
        lines = self.folder.results_jsonl.read_bytes().splitlines()
        return [msgspec.json.decode(line, type=Row) for line in lines]


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
