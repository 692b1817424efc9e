"""`rayflow batch status|list|cancel|resume|results`: a client in a few lines stands where a system would be."""

from __future__ import annotations

import gzip
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from rayflow.app.jobs.records import JobRecord, JobStore, new_job_id
from rayflow.batch.directory import JobDirectory
from rayflow.batch.spec import Inputs, JobSpec, Limits
from rayflow.batch.status import JobStatus
from rayflow.chat import Usage
from rayflow.cli import app
from rayflow.cli.exits import Exit, report
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import ModelTimeout
from rayflow.events import Event
from rayflow.messages import RunRequest, RunResult


class FakeSystem:
    """Answers all but the text `fail`; raises SIGINT when asked `interrupt`."""

    fabric = None

    def __init__(self) -> None:
        self.config = WorkflowConfig.model_validate({"name": "team", "agents": [{"name": "echo"}]})
        self.asked: list[str] = []

    @asynccontextmanager
    async def open_client(self, file: Path | None, **options: object) -> AsyncIterator[FakeSystem]:
        yield self

    async def run(self, request: RunRequest, timeout_s: float | None = None) -> RunResult:
        text = request.messages[0].text
        self.asked.append(text)
        if text == "fail":
            raise ModelTimeout("too slow")
        if text == "interrupt":
            signal.raise_signal(signal.SIGINT)
        return RunResult(request.run_id, request.session_id, text.upper(), "stop", Usage(1, 2), "offline", ["echo"])

    def emit(self, event: Event) -> None:
        pass

    def now_us(self) -> int:
        return time.time_ns() // 1000


class Desk:
    """A state folder, and the command on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = path / "state"

    def job(self, *prompts: str, name: str = "a1b2c3") -> JobDirectory:
        """A job that was never started."""
        data = self.path / f"{name}.jsonl"
        data.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
        directory = JobDirectory(self.state / "batches" / name)
        spec = JobSpec(Inputs([str(data)]), limits=Limits(concurrency=1))
        directory.create(directory.plan(spec, 1_700_000_000_000_000, job_id=name))
        return directory

    def record(self, status: str) -> JobRecord:
        """A job that was handed in over HTTP."""
        record = JobRecord(id=new_job_id(), kind="native", tenant="", status="queued", created_s=1_700_000_000)
        record = record.now(status, 1_700_000_001)  # type: ignore[arg-type]
        return JobStore(self.state).create(record, b'{"prompt": "a"}\n', ".jsonl")

    def run(self, *arguments: str) -> Result:
        result = CliRunner().invoke(app, ["batch", *arguments, "--state", str(self.state)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            result.exit_code = report(result.exception)  # type: ignore[arg-type]
        return result


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> FakeSystem:
    system = FakeSystem()
    monkeypatch.setattr("rayflow.app.attach.open_client", system.open_client)
    return system


def test_a_job_is_resumed_looked_at_and_its_results_are_written(desk: Desk, system: FakeSystem) -> None:
    desk.job("a", "fail", "b")
    resumed = desk.run("resume", "a1b2", "--json")
    assert resumed.exit_code == Exit.PARTIAL
    told = json.loads(resumed.stdout)
    assert (told["job"], told["by"], told["state"]) == ("a1b2c3", "command", "finished")
    assert (told["totals"]["ok"], told["totals"]["failed"]) == (2, 1)
    words = desk.run("status", "a1b2c3")
    assert words.exit_code == 0 and "finished: 3/" in words.stdout and "model-timeout 1" in words.stdout
    assert desk.run("status", "a1b2c3", "--watch").exit_code == Exit.PARTIAL
    rows = desk.run("results", "a1b2c3")
    assert rows.exit_code == Exit.PARTIAL
    assert [json.loads(row)["answers"] for row in rows.stdout.splitlines()] == [["A"], [], ["B"]]
    assert len(desk.run("results", "a1b2c3", "--only", "error").stdout.splitlines()) == 1
    out = desk.path / "rows.parquet"
    desk.run("results", "a1b2c3", "--format", "parquet", "--out", str(out))
    assert pq.read_table(out).num_rows == 3
    assert desk.run("results", "a1b2c3", "--format", "parquet").exit_code == Exit.INPUT


def test_failed_rows_are_run_again_only_when_asked(desk: Desk, system: FakeSystem) -> None:
    desk.job("a", "fail")
    desk.run("resume", "a1b2c3")
    desk.run("resume", "a1b2c3")
    assert system.asked.count("fail") == 1 and system.asked.count("a") == 1
    desk.run("resume", "a1b2c3", "--retry-failed")
    assert system.asked.count("fail") == 2 and system.asked.count("a") == 1


def test_an_interrupt_ends_it_cleanly_and_it_goes_on(desk: Desk, system: FakeSystem) -> None:
    directory = desk.job("a", "interrupt", "b", "c", "d")
    assert desk.run("resume", "a1b2c3").exit_code == 128 + signal.SIGINT
    assert directory.status().state == "interrupted"
    system.run = FakeSystem().run  # type: ignore[method-assign]
    done = desk.run("resume", "a1b2c3")
    assert done.exit_code == 0 and directory.status().totals.ok == 5


def test_all_jobs_are_listed_whoever_runs_them(desk: Desk) -> None:
    assert desk.run("list").stdout.split() == ["job", "state", "by", "done", "failed", "rate", "cost", "created"]
    desk.job("a")
    record = desk.record("completed")
    table = desk.run("list").stdout
    assert "a1b2c3" in table and record.id in table and "command" in table and "server" in table
    told = json.loads(desk.run("list", "--json").stdout)
    assert {(job["job"], job["state"]) for job in told} == {("a1b2c3", "created"), (record.id, "finished")}


def test_a_job_on_which_nobody_works_is_cancelled_at_once(desk: Desk) -> None:
    directory = desk.job("a")
    assert desk.run("cancel", "a1b2c3").exit_code == 0
    assert directory.status().state == "cancelled"
    assert desk.run("cancel", "a1b2c3").exit_code == Exit.INPUT


def test_who_works_on_a_job_is_asked_to_end_it(desk: Desk) -> None:
    directory = desk.job("a")
    with directory.started(directory.job()) as job:
        directory.write_status(JobStatus(job.job_id, "running"))
        assert desk.run("cancel", "a1b2c3").exit_code == 0
        assert directory.asked() == "cancel"


def test_a_job_of_the_server_is_cancelled_and_resumed_by_a_mark(desk: Desk) -> None:
    record = desk.record("in_progress")
    store = JobStore(desk.state)
    assert desk.run("cancel", record.id).exit_code == 0
    assert store.get("", record.id, "native").status == "cancelling"
    paused = desk.record("paused")
    answer = desk.run("resume", paused.id)
    assert answer.exit_code == 0 and "no server runs" in answer.stderr
    assert store.get("", paused.id, "native").status == "queued"
    assert desk.run("resume", paused.id, "--retry-failed").exit_code == Exit.INPUT


def test_a_beginning_that_several_jobs_share_is_refused_and_an_unknown_one_not_found(desk: Desk) -> None:
    desk.job("a", name="abc1")
    desk.job("a", name="abc2")
    assert desk.run("status", "abc").exit_code == Exit.INPUT
    assert desk.run("status", "abc1").exit_code == 0
    assert desk.run("status", "zzz").exit_code == Exit.INPUT
    assert desk.run("status", str(desk.state / "batches" / "abc2")).exit_code == 0


def damaged(folder: Path) -> dict[str, list[str]]:
    """Inputs as people have them on a bad day. What becomes of the rows of each: `ok` or the slug of the error."""
    folder.mkdir()
    lines = b"".join(b'{"prompt": "%d"}\n' % (n * 7919) for n in range(2000))
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines)[:3000])
    (folder / "b.jsonl").write_bytes(
        b'{"prompt": "\xff"}\n{"prompt": 1e400}\n{"prompt": "a", "prompt": "b"}\n{"prompt":"ok"}\n'
    )
    (folder / "c.jsonl").write_bytes(b'{"prompt": "' + b"x" * 50_000_000 + b'"}\n{"prompt": "ok"}\n')
    (folder / "d.json").write_text('[{"prompt": "ok"}, {"prompt": }, {"nothing": 1}, {"prompt": "cut')
    parquet = folder / "e.parquet"
    table = pa.table({"prompt": [f"prompt {n}" for n in range(30)]})
    pq.write_table(
        table, parquet, row_group_size=10, use_dictionary=False, compression="none", write_page_checksum=True
    )
    data = bytearray(parquet.read_bytes())
    data[data.index(b"prompt 15")] ^= 1
    parquet.write_bytes(bytes(data))
    return {
        "b.jsonl": ["invalid-encoding", "invalid-json", "invalid-json", "ok"],
        "c.jsonl": ["body-too-large", "ok"],
        "d.json": ["ok", "invalid-json", "invalid-request", "invalid-json"],
        "e.parquet": ["ok"] * 10 + ["invalid-request"] * 10 + ["ok"] * 10,
    }


def test_of_damaged_inputs_right_rows_are_right_and_bad_ones_error_rows(desk: Desk, system: FakeSystem) -> None:
    expected = damaged(desk.path / "in")
    out = desk.path / "out"
    ran = desk.run("run", str(desk.path / "in"), "--out", str(out))
    assert ran.exit_code == Exit.PARTIAL, ran.output
    found: dict[str, list[str]] = {}
    rows = [json.loads(line) for line in desk.run("results", str(out)).stdout.splitlines()]
    for row in rows:
        assert row["status"] == "error" or row["answers"] == [row["turns"][0].upper()]
        found.setdefault(row["source"], []).append(row["error"] or "ok")
    cut = found.pop("a.jsonl.gz")
    assert cut[-1] == "invalid-request" and len(cut) > 100 and set(cut[:-1]) == {"ok"}
    assert found == expected
    assert [row["ordinal"] for row in rows] == list(range(1, len(rows) + 1))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.parquet", b"PAR1 and nothing else"),
        ("a.jsonl.gz", b"no gzip"),
        ("a.json", b"no document"),
        ("a.csv", b"question,answer\na,b\n"),
        ("a.docx", b"PK"),
    ],
)
def test_an_input_that_cannot_be_read_leaves_nothing_behind(
    desk: Desk, system: FakeSystem, name: str, data: bytes
) -> None:
    file = desk.path / name
    file.write_bytes(data)
    ran = desk.run("run", str(file), "--out", str(desk.path / "out"))
    assert ran.exit_code == Exit.INPUT, ran.output
    assert not (desk.path / "out").exists() and system.asked == []
