"""`rayflow report`, `alerts` and `feedback` as a user types them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from support import synthetic_log
from support.report_oracle import differences
from typer.testing import CliRunner

from rayflow.analytics.reports import Report
from rayflow.app import attach
from rayflow.app import feedback as feedback_desk
from rayflow.app.feedback import Opinion
from rayflow.cli import alerts, feedback, report
from rayflow.cli.exits import Exit
from rayflow.cli.exits import report as reported
from rayflow.config.load import from_dict

app = typer.Typer()
for topic in (report, alerts, feedback):
    topic.register(app)
DAY = ("--since", "2026-11-20T12:00", "--until", "2026-11-21T12:00")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state")
    events = synthetic_log.events(runs=120)
    assert synthetic_log.write_log(folder / "events", events)
    synthetic_log.write(folder / "copy", events)
    return folder


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr, with errors reported as `rayflow` does."""
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, Exception)
        return reported(result.exception), result.stdout, str(result.exception)
    return result.exit_code, result.stdout, result.stderr


def test_a_report_on_a_real_log_is_the_one_that_the_files_say(state: Path) -> None:
    code, out, _ = run("report", *DAY, "--format", "json", "--state", state)
    assert code == Exit.OK
    assert differences(msgspec.json.decode(out, type=Report), (state / "copy").glob("*.parquet")) == []


def test_it_is_printed_for_a_terminal_by_default(state: Path) -> None:
    _, out, _ = run("report", *DAY, "--compare", "none", "--state", state)
    assert out.startswith("Report on 2026-11-20 12:00 UTC to 2026-11-21 12:00 UTC\n") and "before" not in out


def test_a_page_goes_into_a_file(state: Path, tmp_path: Path) -> None:
    code, out, err = run("report", *DAY, "--format", "html", "--out", tmp_path / "r.html", "--events", state / "events")
    assert (code, out) == (0, "") and "r.html" in err
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")


def test_a_damaged_file_is_named_and_the_report_is_partial(tmp_path: Path) -> None:
    torn = synthetic_log.write_log(tmp_path / "events", synthetic_log.events(runs=120))[0]
    torn.write_bytes(torn.read_bytes()[:-100])
    code, out, _ = run("report", *DAY, "--format", "markdown", "--state", tmp_path)
    assert code == Exit.PARTIAL and torn.name in out.replace("\\", "")


def test_what_is_no_period_and_no_log_are_errors_of_the_input(state: Path, tmp_path: Path) -> None:
    assert run("report", "--since", "yesterday", "--state", state)[0] == Exit.INPUT
    assert run("report", "--state", tmp_path)[0] == Exit.INPUT


def test_alerts_are_listed_with_their_ends(state: Path) -> None:
    code, out, _ = run("alerts", "--since", "2026-11-20", "--format", "json", "--state", state)
    newest, oldest = json.loads(out)
    assert code == 0 and (newest["value"], newest["cleared"]) == (0.4, None)
    assert (oldest["metric"], oldest["raised"], oldest["cleared"]) == (
        "error_rate", "2026-11-20T13:00:00Z", "2026-11-20T14:00:00Z",
    )  # fmt: skip
    _, out, _ = run("alerts", "--since", "2026-11-20", "--open", "--state", state)
    assert len(out.splitlines()) == 2 and "0.4" in out
    assert run("alerts", "--since", "1s", "--state", state)[1] == "no alerts\n"


def test_feedback_is_given_to_the_system_that_runs(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    given = []

    class Client:
        config = from_dict({"name": "w", "agents": [{"name": "a"}], "storage": {"state": str(state)}})

        async def flush(self) -> None:
            given.append("flushed")

    class Desk:
        def __init__(self, client: Client, ask: Any) -> None:
            self._ask = ask

        async def give(self, tenant: str, opinion: Opinion) -> Opinion:
            rows: list[Mapping[str, Any]] = await self._ask("SELECT count(*) AS runs FROM runs", {})
            given.append((tenant, opinion, rows[0]["runs"] > 0))
            return opinion

    @asynccontextmanager
    async def visit(folder: Path) -> AsyncIterator[tuple[None, Client]]:
        assert folder == Path("here")
        yield None, Client()

    monkeypatch.setattr(attach, "visit", visit)
    monkeypatch.setattr(feedback_desk, "FeedbackDesk", Desk)
    code, _, err = run("feedback", "run_1", "--thumb", "down", "--comment", "no", "--tenant", "acme", "--state", "here")
    assert code == 0 and "run_1" in err
    assert given == [("acme", Opinion("run_1", thumb="down", comment="no"), True), "flushed"]
