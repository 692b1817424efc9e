from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rayflow.analytics.segments import SegmentWriter
from rayflow.cli import simulate
from rayflow.cli.exits import Exit, report
from rayflow.events import Event

app = typer.Typer()
simulate.register(app)


@app.callback()
def root_command() -> None:
    """With a callback, Typer keeps `simulate` a command of its own."""


SCENARIO = "name: small\nduration_s: 20\narrivals: {rate_per_s: 20}\nreplicas: {min: 2, max: 2, max_in_flight: 4}\n"


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO)
    return path


def simulated(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr, with errors reported as `rayflow` does."""
    result = CliRunner().invoke(app, ["simulate", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, Exception)
        return report(result.exception), result.stdout, str(result.exception)
    return result.exit_code, result.stdout, result.stderr


def test_a_scenario_gives_a_table_and_says_its_speed(scenario: Path) -> None:
    code, out, err = simulated(scenario)
    assert code == Exit.OK
    assert out.splitlines()[0].split() == ["figure", "value"]
    assert any(line.split()[0] == "p99_s" for line in out.splitlines())
    assert "requests in" in err
    assert "a second" in err


def test_the_answer_depends_on_the_seed_alone(scenario: Path) -> None:
    once, again, other = (simulated(scenario, "--seed", seed, "--format", "json")[1] for seed in ("5", "5", "6"))
    assert once == again != other
    [[result]] = json.loads(once)["results"]
    assert (result["scenario"], result["seed"]) == ("small", 5)


def test_several_seeds_are_summed_up(scenario: Path) -> None:
    _, out, _ = simulated(scenario, "--seeds", "3")
    assert out.splitlines()[0].split() == ["figure", "median", "least", "most"]
    seeds = [
        run["seed"] for run in json.loads(simulated(scenario, "--seeds", "3", "--format", "json")[1])["results"][0]
    ]
    assert seeds == [1, 2, 3]


def test_two_scenarios_are_set_side_by_side(scenario: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(SCENARIO.replace("small", "larger").replace("min: 2, max: 2", "min: 4, max: 4"))
    code, out, _ = simulated("--compare", scenario, other, "--seeds", "2")
    head, *rows = [line.split() for line in out.splitlines()]
    assert code == Exit.OK
    assert head[:4] == ["figure", "small", "larger", "difference"]
    assert next(row for row in rows if row[0] == "replica_seconds")[1:4] == ["40", "80", "+100.0"]


def test_a_page_of_curves_is_written(scenario: Path, tmp_path: Path) -> None:
    page = tmp_path / "out.html"
    assert simulated(scenario, "--plot", page)[0] == Exit.OK
    assert page.read_text().startswith("<!doctype html>")
    assert simulated(scenario, "--plot", tmp_path / "none" / "out.html")[0] == Exit.STORAGE


def test_the_log_of_a_system_can_be_replayed(tmp_path: Path) -> None:
    events = [
        event
        for n in range(5)
        for event in (
            Event("run.started", n * 1_000_000, run_id=f"r{n}", seq=1, session_id="s"),
            Event("run.finished", n * 1_000_000 + 9, run_id=f"r{n}", seq=2, status="ok", completion_tokens=10),
        )
    ]
    SegmentWriter(tmp_path / "events", "eventlog/0").write(events)
    path = tmp_path / "log.yaml"
    path.write_text("name: log\narrivals: {process: log, file: events}\n")
    code, out, _ = simulated(path)
    assert code == Exit.OK
    assert next(line.split() for line in out.splitlines() if line.startswith("answered ")) == ["answered", "5"]


@pytest.mark.parametrize(
    ("change", "code"),
    [("typo: 1", Exit.CONFIG), ("workflow: none.yaml", Exit.CONFIG), ("seed: 1.5", Exit.CONFIG)],
)
def test_a_wrong_scenario_ends_with_the_code_for_configuration(scenario: Path, change: str, code: int) -> None:
    scenario.write_text(f"{SCENARIO}{change}\n")
    assert simulated(scenario)[0] == code


def test_a_trace_that_is_not_there_ends_with_the_code_for_input(scenario: Path) -> None:
    scenario.write_text("name: t\narrivals: {process: trace, file: none.parquet}\n")
    assert simulated(scenario)[0] == Exit.INPUT


def test_comparing_takes_two(scenario: Path) -> None:
    assert simulated("--compare", scenario)[0] == Exit.USAGE
    assert simulated(scenario, scenario)[0] == Exit.USAGE
