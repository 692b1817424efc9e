"""`rayflow batch run` without a system: a client in a few lines stands where `open_client` would start one."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from types import ModuleType

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from rayflow.batch.engine import BatchJob, Progress
from rayflow.batch.folder import JobFolder
from rayflow.batch.source import Source
from rayflow.chat import Usage
from rayflow.cli import batch
from rayflow.cli.batch_watch import Interrupts, bar, pace
from rayflow.cli.exits import Exit, report
from rayflow.errors import ConfigurationError, ModelTimeout
from rayflow.events import Event
from rayflow.messages import RunRequest, RunResult


class FakeSystem:
    """What `open_client` gives: answers all but the text `fail`; raises SIGINT when asked `interrupt`."""

    def __init__(self) -> None:
        self.opened: list[dict[str, object]] = []
        self.calls = 0
        self.refuse: Exception | None = None
        self.stopped = asyncio.Event()

    @asynccontextmanager
    async def open_client(self, file: Path | None, **options: object) -> AsyncIterator[FakeSystem]:
        self.opened.append({"file": file, **options})
        if self.refuse:
            raise self.refuse
        yield self

    async def run(self, request: RunRequest, timeout_s: float | None = None) -> RunResult:
        self.calls += 1
        text = request.messages[0].text
        if text == "fail":
            raise ModelTimeout("too slow")
        if text == "interrupt":
            signal.raise_signal(signal.SIGINT)
            await self.stopped.wait()
        return RunResult(request.run_id, request.session_id, text.upper(), "stop", Usage(1, 2), "offline", ["echo"])

    def emit(self, event: Event) -> None:
        pass

    def now_us(self) -> int:
        return 0


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSystem]:
    system = FakeSystem()
    stop = BatchJob.stop
    monkeypatch.setattr(BatchJob, "stop", lambda job: (stop(job), system.stopped.set()))
    module = ModuleType("rayflow.app.attach")
    module.__dict__["open_client"] = system.open_client
    monkeypatch.setitem(sys.modules, "rayflow.app.attach", module)
    return system


def invoke(arguments: Sequence[object]) -> Result:
    app = typer.Typer()
    batch.register(app)
    return CliRunner().invoke(app, ["batch", "run", *map(str, arguments)])


def write(path: Path, *prompts: str) -> Path:
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return path


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Missing argument"),
        (["in.jsonl"], "Missing option '--out'"),
        (["in.jsonl", "--out", "o", "--concurrency", "0"], "Invalid value for '--concurrency'"),
        (["in.jsonl", "--out", "o", "--limit", "0"], "Invalid value for '--limit'"),
        (["in.jsonl", "--out", "o", "--frobnicate"], "No such option"),
    ],
)
def test_wrong_arguments_are_usage_errors(
    system: FakeSystem, monkeypatch: pytest.MonkeyPatch, arguments: list[str], complaint: str
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    result = invoke(arguments)
    assert result.exit_code == Exit.USAGE
    assert complaint in result.output
    assert not system.opened


def test_unreadable_input_is_refused_before_a_system_is_started(system: FakeSystem, tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    for name in ("missing.jsonl", "broken.parquet", "items.docx"):
        result = invoke([tmp_path / name, "--out", tmp_path / "out"])
        assert isinstance(result.exception, Exception)
        assert report(result.exception) == Exit.INPUT
    assert not system.opened and not (tmp_path / "out").exists()


def test_a_changed_input_is_refused_before_a_system_is_started(system: FakeSystem, tmp_path: Path) -> None:
    data, out = tmp_path / "in.jsonl", tmp_path / "out"
    assert invoke([write(data, "a"), "--out", out]).exit_code == Exit.OK
    result = invoke([write(data, "b"), "--out", out])
    assert isinstance(result.exception, Exception) and "--overwrite" in str(result.exception)
    assert report(result.exception) == Exit.INPUT
    assert len(system.opened) == 1
    assert invoke([data, "--out", out, "--overwrite"]).exit_code == Exit.OK


def test_a_broken_configuration_leaves_no_result_folder(system: FakeSystem, tmp_path: Path) -> None:
    system.refuse = ConfigurationError("agents: expected a list")
    result = invoke([write(tmp_path / "in.jsonl", "a"), "--out", tmp_path / "out"])
    assert isinstance(result.exception, Exception) and report(result.exception) == Exit.CONFIG
    assert not (tmp_path / "out").exists()


def test_options_reach_the_system(system: FakeSystem, tmp_path: Path) -> None:
    data = write(tmp_path / "in.jsonl", "a")
    options = ["-c", "team.yaml", "--state", "s", "--address", "auto", "--in-process", "--set", "a=1", "--set", "b=2"]
    assert invoke([data, "--out", tmp_path / "out", *options]).exit_code == Exit.OK
    assert system.opened == [
        {
            "file": Path("team.yaml"),
            "state": Path("s"),
            "address": "auto",
            "in_process": True,
            "overrides": ["a=1", "b=2"],
        }
    ]


def test_the_summary_is_one_json_object_on_stdout(system: FakeSystem, tmp_path: Path) -> None:
    result = invoke([write(tmp_path / "in.jsonl", "a", "b"), "--out", tmp_path / "out", "--json"])
    summary = json.loads(result.stdout)
    assert (summary["ok"], summary["failed"], summary["state"]) == (2, 0, "finished")
    assert "batch: 2/2 done, 0 failed" in result.stderr


def test_failed_rows_exit_with_partial_and_are_counted_by_slug(system: FakeSystem, tmp_path: Path) -> None:
    data, out = write(tmp_path / "in.jsonl", "a", "fail"), tmp_path / "out"
    result = invoke([data, "--out", out])
    assert result.exit_code == Exit.PARTIAL
    assert "2 of 2 items: 1 ok, 1 failed" in result.stdout and "model-timeout 1" in result.stdout
    assert len((out / "results.jsonl").read_text().splitlines()) == 2


def test_a_finished_job_answers_again_without_a_system(system: FakeSystem, tmp_path: Path) -> None:
    data, out = write(tmp_path / "in.jsonl", "a", "fail"), tmp_path / "out"
    first = invoke([data, "--out", out, "--json"])
    again = invoke([data, "--out", out, "--json"])
    assert (again.stdout, again.exit_code) == (first.stdout, first.exit_code)
    assert len(system.opened) == 1
    assert invoke([data, "--out", out, "--retry-failed"]).exit_code == Exit.PARTIAL
    assert len(system.opened) == 2 and system.calls == 3


def test_limit_and_field_choose_what_is_run(system: FakeSystem, tmp_path: Path) -> None:
    data = tmp_path / "in.csv"
    data.write_text("question\na\nb\nc\n")
    result = invoke([data, "--out", tmp_path / "out", "--field", "question", "--limit", 2, "--json"])
    assert json.loads(result.stdout)["items"] == system.calls == 2


def test_an_interrupt_finishes_what_is_in_flight_and_exits_130(system: FakeSystem, tmp_path: Path) -> None:
    data, out = write(tmp_path / "in.jsonl", "a", "interrupt", "c", "d"), tmp_path / "out"
    result = invoke([data, "--out", out, "--concurrency", 1, "--json"])
    assert result.exit_code == 128 + signal.SIGINT
    summary = json.loads(result.stdout)
    assert (summary["state"], summary["items"], system.calls) == ("interrupted", 2, 2)
    assert invoke([data, "--out", out]).exit_code == Exit.OK
    assert system.calls == 4


async def test_a_second_interrupt_drops_what_is_in_flight(system: FakeSystem, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def never(request: RunRequest, timeout_s: float | None = None) -> RunResult:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    system.run = never  # type: ignore[method-assign]
    interrupts = Interrupts()
    job = BatchJob(system, Source(write(tmp_path / "in.jsonl", "a")), JobFolder(tmp_path / "out"))
    guarded = asyncio.create_task(interrupts.guard(job))
    await begun.wait()
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    assert await guarded is None
    assert interrupts.signal == signal.SIGINT


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as stack:
        show = bar(stack)
        show(Progress(total=10, skipped=1, ok=2), 1.0)
    assert "3/10 0 failed, 2.0/s, about 0:04 left" in capsys.readouterr().err


def test_the_pace_names_failures_rate_and_estimate() -> None:
    assert pace(Progress(total=100), 0.0) == "0 failed"
    assert pace(Progress(total=100, skipped=40, ok=18, failed=2), 10.0) == "2 failed, 2.0/s, about 0:20 left"
    assert pace(Progress(total=10, ok=10), 4.0) == "0 failed, 2.5/s"
