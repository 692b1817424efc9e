"""`rayflow replay` as a build types it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import typer
from support.recorded_day import TEAM, changed, recorded
from typer.testing import CliRunner

from rayflow.cli import query, replay, version
from rayflow.cli.exits import Exit
from rayflow.cli.exits import report as reported

app = typer.Typer()
for topic in (replay, query, version):
    topic.register(app)

SAID = [("sess-1", "Where is my refund?"), ("sess-2", "Where is my invoice?"), ("sess-2", "It was an error.")]


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr, with errors reported as `rayflow` does."""
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, Exception)
        return reported(result.exception), result.stdout, str(result.exception)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state")
    asyncio.run(recorded(folder, SAID))
    return folder


def workflow(folder: Path, **sections: object) -> Path:
    """JSON is YAML."""
    file = folder / "changed.yaml"
    file.write_text(json.dumps(changed(TEAM, **sections)))
    return file


def no_invoices(folder: Path) -> Path:
    routing = changed()["routing"]
    routing["rules"][0]["keywords"] = ["refund"]
    return workflow(folder, routing=routing)


def test_nothing_changed_is_exit_code_0(state: Path, tmp_path: Path) -> None:
    code, out, _ = run("replay", "--workflow", workflow(tmp_path), "--state", state)
    assert code == Exit.OK
    assert "runs replayed          3 of 3" in out and "changed                0" in out
    (folder,) = (state / "replays").iterdir()
    assert f"rayflow query --state {folder} --name replay_changes" in out


def test_a_change_that_was_asked_for_is_exit_code_5(state: Path, tmp_path: Path) -> None:
    asked = ("replay", "--workflow", no_invoices(tmp_path), "--state", state)
    code, out, _ = run(*asked, "--out", tmp_path / "out", "--format", "json")
    told = json.loads(out)
    assert code == Exit.PARTIAL and told["failed"] == ["routing: 1 of 3 runs"]
    assert [row["changed"] for row in told["changes"]] == [["routing"]]
    code, out, _ = run(*asked, "--fail-on", "errors,cost>2x", "--format", "markdown", "--out", tmp_path / "fine")
    assert code == Exit.OK and out.startswith("# Replay through `team`\n") and "- `billing -> general: 1`" in out


def test_what_changed_is_asked_by_name_or_in_sql(state: Path, tmp_path: Path) -> None:
    run("replay", "--workflow", no_invoices(tmp_path), "--state", state, "--out", tmp_path / "out")
    for name in ("summary", "changes", "routing", "answers", "agents", "left_out"):
        code, out, _ = run("query", "--state", tmp_path / "out", "--name", f"replay_{name}", "--format", "json")
        assert code == Exit.OK, name
        if name == "changes":
            (row,) = json.loads(out)
            assert (row["agents_before"], row["agents_after"]) == (["billing"], ["general"])
    joined = f"""
        SELECT diff.run_id, runs.status FROM '{tmp_path}/out/diff.parquet' AS diff JOIN runs USING (run_id)
    """
    _, out, _ = run("query", joined, "--state", tmp_path / "out", "--format", "json")
    assert [row["status"] for row in json.loads(out)] == ["ok"] * 3


def test_nothing_to_replay_is_exit_code_4(state: Path, tmp_path: Path) -> None:
    file = workflow(tmp_path)
    code, _, err = run("replay", "--workflow", file, "--state", state, "--until", "1h", "--since", "2h")
    assert code == Exit.INPUT and "no run to replay" in err
    code, _, err = run("replay", "--workflow", file, "--state", tmp_path / "nowhere")
    assert code == Exit.INPUT and "no event log" in err


async def test_runs_without_texts_are_exit_code_4_with_the_reason(tmp_path: Path) -> None:
    silent = {"monitoring": {"capture": "none", "flush_s": 0.05}, "session": {"store": "memory"}}
    await recorded(tmp_path / "state", SAID, changed(**silent))
    asked = ("replay", "--workflow", workflow(tmp_path, **silent), "--state", tmp_path / "state")
    code, out, _ = await asyncio.to_thread(run, *asked)
    assert code == Exit.INPUT
    assert "3: its messages are not recorded (monitoring.capture), and no session has them" in out


def test_a_wrong_condition_is_a_wrong_option(state: Path, tmp_path: Path) -> None:
    code, _, err = run("replay", "--workflow", workflow(tmp_path), "--state", state, "--fail-on", "everything")
    assert code == Exit.USAGE and "--fail-on" in err


async def test_what_the_log_lacks_is_read_from_the_sessions(tmp_path: Path) -> None:
    silent = {"monitoring": {"capture": "none", "flush_s": 0.05}}
    await recorded(tmp_path / "state", SAID, changed(**silent))
    asked = ("replay", "--workflow", workflow(tmp_path, **silent), "--state", tmp_path / "state", "--format", "json")
    code, out, _ = await asyncio.to_thread(run, *asked)
    figures = json.loads(out)["figures"]
    assert (code, figures["replayed"], figures["changed"], figures["unrecorded"]) == (Exit.OK, 3, 0, 0)
