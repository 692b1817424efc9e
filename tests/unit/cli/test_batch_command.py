"""`rayflow batch run` without a system: a client in a few lines stands where `open_client` would start one."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from rayflow.batch.directory import JobDirectory
from rayflow.batch.export import rows_of
from rayflow.batch.inputs.source import Source
from rayflow.batch.run import JobRun
from rayflow.batch.spec import Inputs, JobSpec
from rayflow.batch.status import JobStatus
from rayflow.chat import Usage
from rayflow.cli import batch
from rayflow.cli.batch_here import run_here
from rayflow.cli.exits import Exit, report
from rayflow.config.load import load_or_example
from rayflow.errors import ConfigurationError, ModelTimeout
from rayflow.events import Event
from rayflow.messages import RunRequest, RunResult


class FakeSystem:
    """What `open_client` gives: answers all but the text `fail`; raises SIGINT when asked `interrupt`."""

    fabric = None

    def __init__(self) -> None:
        self.config = load_or_example(None, ())
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
        if "<conversation>" in text:
            text = "no"
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
    stop = JobRun.stop
    monkeypatch.setattr(JobRun, "stop", lambda job: (stop(job), system.stopped.set()))
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
    team = tmp_path / "team.yaml"
    team.write_text("name: team\nagents: [{name: one}]\n")
    options = ["-c", team, "--state", "s", "--address", "auto", "--in-process", "--set", "name=b"]
    assert invoke([data, "--out", tmp_path / "out", *options]).exit_code == Exit.OK
    assert system.opened == [
        {
            "file": team,
            "state": Path("s"),
            "address": "auto",
            "in_process": True,
            "overrides": ["name=b"],
        }
    ]


def test_the_summary_is_one_json_object_on_stdout(system: FakeSystem, tmp_path: Path) -> None:
    result = invoke([write(tmp_path / "in.jsonl", "a", "b"), "--out", tmp_path / "out", "--json"])
    status = json.loads(result.stdout)
    assert (status["state"], status["total"], status["totals"]["ok"]) == ("finished", 2, 2)


def test_failed_rows_exit_with_partial_and_are_counted_by_slug(system: FakeSystem, tmp_path: Path) -> None:
    data, out = write(tmp_path / "in.jsonl", "a", "fail"), tmp_path / "out"
    result = invoke([data, "--out", out])
    assert result.exit_code == Exit.PARTIAL
    assert "2/2 rows, 1 failed" in result.stdout and "model-timeout 1" in result.stdout
    assert len(list(rows_of(JobDirectory(out)))) == 2


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
    assert json.loads(result.stdout)["totals"]["rows"] == system.calls == 2


def test_an_interrupt_finishes_what_is_in_flight_and_exits_130(system: FakeSystem, tmp_path: Path) -> None:
    data, out = write(tmp_path / "in.jsonl", "a", "interrupt", "c", "d"), tmp_path / "out"
    result = invoke([data, "--out", out, "--concurrency", 1, "--json"])
    assert result.exit_code == 128 + signal.SIGINT
    status = json.loads(result.stdout)
    assert (status["state"], status["totals"]["rows"], system.calls) == ("interrupted", 2, 2)
    assert invoke([data, "--out", out]).exit_code == Exit.OK
    assert system.calls == 4


async def test_a_second_interrupt_drops_what_is_in_flight(system: FakeSystem, tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def never(request: RunRequest, timeout_s: float | None = None) -> RunResult:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    system.run = never  # type: ignore[method-assign]
    directory = JobDirectory(tmp_path / "out")
    spec = JobSpec(Inputs([str(write(tmp_path / "in.jsonl", "a"))]))
    job = JobRun(system, directory, directory.plan(spec, 0), Source(spec.inputs))
    guarded = asyncio.create_task(run_here(job))
    await begun.wait()
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    assert await guarded == (None, signal.SIGINT)


def test_a_dry_run_starts_nothing_and_leaves_no_folder(system: FakeSystem, tmp_path: Path) -> None:
    result = invoke([write(tmp_path / "in.jsonl", "a", "b"), "--out", tmp_path / "out", "--dry-run"])
    found = json.loads(result.stdout)
    assert (result.exit_code, found["rows"], found["turns"]) == (Exit.OK, 2, 2)
    assert not system.opened and not (tmp_path / "out").exists()


def test_a_judge_needs_an_instruction_and_gives_its_labels(system: FakeSystem, tmp_path: Path) -> None:
    data = write(tmp_path / "in.jsonl", "a")
    refused = invoke([data, "--out", tmp_path / "out", "--mode", "judge"])
    assert isinstance(refused.exception, Exception) and report(refused.exception) == Exit.INPUT
    options = ["--mode", "judge", "--instruction", "Is it polite?", "--label", "yes", "--label", "no"]
    assert invoke([data, "--out", tmp_path / "out", *options]).exit_code == Exit.OK
    (row,) = rows_of(JobDirectory(tmp_path / "out"))
    assert row.label == "no"


def test_a_job_without_a_folder_has_one_in_the_state_folder(system: FakeSystem, tmp_path: Path) -> None:
    result = invoke([write(tmp_path / "in.jsonl", "a"), "--state", tmp_path / "state", "--json"])
    job_id = json.loads(result.stdout)["job_id"]
    assert JobDirectory(tmp_path / "state" / "batches" / job_id).status().state == "finished"


def test_feeders_are_asked_of_the_system_that_runs_the_job(
    system: FakeSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, int]] = []

    async def run(job: JobRun) -> JobStatus:
        asked.append((job._fabric, job._spec.limits.feeders))
        return JobStatus("job", "finished")

    monkeypatch.setattr(system, "fabric", fabric := object())
    monkeypatch.setattr(JobRun, "run", run)
    invoke([write(tmp_path / "in.jsonl", "a"), "--out", tmp_path / "out", "--feeders", "3"])
    assert asked == [(fabric, 3)]
