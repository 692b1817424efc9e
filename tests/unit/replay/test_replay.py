"""A day is recorded by a real system in this process; what a changed workflow does to it is known beforehand."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from support.recorded_day import ALL, TEAM, changed, recorded, replayed

from rayflow.analytics.database import open_log
from rayflow.errors import Conflict, NotFound, ValidationError
from rayflow.replay.replay import How

SUBJECTS = ("a refund", "my invoice", "an error", "the crash", "your offer", "the weather", "a refund after the crash")
SESSIONS, TURNS = 60, 5


class Day(NamedTuple):
    folder: Path
    texts: dict[str, str]


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    """300 runs in 60 sessions."""
    folder, rng = tmp_path_factory.mktemp("state"), random.Random(7)
    said = [
        (f"sess-{number}", f"Tell me about {rng.choice(SUBJECTS)}, number {number}-{turn}.")
        for number in range(SESSIONS)
        for turn in range(TURNS)
    ]
    return Day(folder, asyncio.run(recorded(folder, said)))


async def test_an_unchanged_workflow_changes_nothing(day: Day, tmp_path: Path) -> None:
    summary, rows = await replayed(day.folder, TEAM, tmp_path / "out")
    figures = summary.figures
    assert (figures.runs, figures.replayed, figures.changed, figures.unrecorded) == (300, 300, 0, 0)
    assert figures.routing_undetermined == figures.answers_undetermined == figures.history_missing == 0
    assert rows.keys() == day.texts.keys()
    assert {len(row["agents_after"]) for row in rows.values()} == {1, 2}
    assert figures.cost_after_usd == pytest.approx(figures.cost_before_usd) and (figures.cost_before_usd or 0) > 0
    assert figures.tokens_after == figures.tokens_before


async def test_rows_that_come_while_others_are_written_are_there_too(
    day: Day, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rayflow.replay.replay.ROWS_AT_ONCE", 7)
    summary, rows = await replayed(day.folder, TEAM, tmp_path / "out")
    assert rows.keys() == day.texts.keys() and summary.figures.runs == len(day.texts)


async def test_a_changed_rule_names_exactly_the_runs_that_it_affects(day: Day, tmp_path: Path) -> None:
    routing = changed()["routing"]
    routing["rules"][0] = {"keywords": ["refund"], "target_agent": "billing"}  # an invoice is nobody's now
    summary, rows = await replayed(day.folder, changed(routing=routing), tmp_path / "out")
    affected = {run_id for run_id, text in day.texts.items() if "invoice" in text}
    assert {run_id for run_id, row in rows.items() if row["changed"]} == affected and len(affected) > 20
    assert summary.figures.routing == summary.figures.changed == len(affected)
    for run_id in affected:
        row = rows[run_id]
        assert (row["agents_before"], row["agents_after"]) == (["billing"], ["general"])
        assert (row["status_after"], row["missing"], row["answer_after"]) == ("no-recording", ["general"], None)
    assert [(move["agents_before"], move["agents_after"], move["runs"]) for move in summary.routing] == [
        (["billing"], ["general"], len(affected))
    ]


async def test_the_log_of_a_replay_is_one_like_any_other(day: Day, tmp_path: Path) -> None:
    await replayed(day.folder, TEAM, tmp_path / "out")
    with open_log(tmp_path / "out" / "events") as log:
        found = log.query("SELECT run_id, status FROM runs").to_pylist()
    assert {row["run_id"] for row in found} == day.texts.keys() and {row["status"] for row in found} == {"ok"}


async def test_nothing_of_the_recorded_system_is_touched(day: Day, tmp_path: Path) -> None:
    def state() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in sorted(day.folder.rglob("*")) if path.is_file()}

    before = state()
    await replayed(day.folder, TEAM, tmp_path / "out", How("offline"))
    assert state() == before


async def test_another_way_of_joining_answers_changes_those_that_were_joined(day: Day, tmp_path: Path) -> None:
    team = changed(aggregation={"strategy": "best_response"})
    summary, rows = await replayed(day.folder, team, tmp_path / "out")
    joined = {run_id for run_id, text in day.texts.items() if "offer" in text}
    assert {run_id for run_id, row in rows.items() if row["changed"] == ["answer"]} == joined
    assert summary.figures.changed == summary.figures.answers == len(joined) > 0
    assert all(0 < rows[run_id]["similarity"] < 1 for run_id in joined)


async def test_another_price_changes_the_cost_of_what_that_model_answered(day: Day, tmp_path: Path) -> None:
    models = changed()["models"]
    models[1] |= {"price_prompt": 20.0, "price_completion": 40.0}
    summary, rows = await replayed(day.folder, changed(models=models), tmp_path / "out")
    dear = {run_id for run_id, row in rows.items() if row["agents_before"] == ["billing"]}
    assert {run_id for run_id, row in rows.items() if row["changed"] == ["cost"]} == dear and dear
    assert summary.figures.changed == summary.figures.cost == len(dear)
    for run_id in dear:
        assert rows[run_id]["cost_usd_after"] == pytest.approx(2 * rows[run_id]["cost_usd_before"])


async def test_a_rule_of_what_is_taken_in_shows_as_new_errors(day: Day, tmp_path: Path) -> None:
    longest = max(map(len, day.texts.values()))
    summary, rows = await replayed(day.folder, changed(processing={"max_length": longest - 1}), tmp_path / "out")
    too_long = {run_id for run_id, text in day.texts.items() if len(text) == longest}
    assert {run_id for run_id, row in rows.items() if "status" in row["changed"]} == too_long
    assert {rows[run_id]["error_after"] for run_id in too_long} == {"content-rejected"}
    assert summary.figures.new_errors == len(too_long)


async def test_a_sample_is_always_the_same_and_sees_the_turns_between(day: Day, tmp_path: Path) -> None:
    some = replace(ALL, sample=20)
    first, rows = await replayed(day.folder, TEAM, tmp_path / "one", choice=some)
    _, again = await replayed(day.folder, TEAM, tmp_path / "two", choice=some)
    assert rows.keys() == again.keys() and len(rows) == 20
    assert (first.figures.replayed, first.figures.changed, first.figures.history_missing) == (20, 0, 0)


async def test_where_chooses_by_anything_that_is_known_of_runs(day: Day, tmp_path: Path) -> None:
    billed = replace(ALL, where="list_contains(agents, 'billing')")
    _, rows = await replayed(day.folder, TEAM, tmp_path / "out", choice=billed)
    assert {tuple(row["agents_after"]) for row in rows.values()} == {("billing",)}
    with pytest.raises(ValidationError, match="nonsense"):
        await replayed(day.folder, TEAM, tmp_path / "wrong", choice=replace(ALL, where="nonsense = 1"))
    with pytest.raises(NotFound, match="no run to replay"):
        await replayed(day.folder, TEAM, tmp_path / "none", choice=replace(ALL, where="false"))


async def test_recorded_answers_may_take_their_time(day: Day, tmp_path: Path) -> None:
    few = replace(ALL, sample=5)
    summary, rows = await replayed(day.folder, TEAM, tmp_path / "paced", How(paced=True), few)
    assert all(row["latency_after_ms"] > 0 for row in rows.values())
    assert summary.figures.latency_after_ms is not None and summary.figures.changed == 0
    _, rows = await replayed(day.folder, TEAM, tmp_path / "fast", choice=few)
    assert {row["latency_after_ms"] for row in rows.values()} == {None}


async def test_a_folder_that_is_in_use_is_left_alone(day: Day, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(Conflict, match="--out"):
        await replayed(day.folder, TEAM, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
