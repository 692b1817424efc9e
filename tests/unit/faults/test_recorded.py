from __future__ import annotations

from pathlib import Path

import pytest
from faults import recorded
from faults.operations import Operation, Outcome
from faults.recorded import problems_of_log

from rayflow.analytics.log import SegmentLog
from rayflow.events import Event, encode_lines
from rayflow.messages import EventBatch


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "FRESH_S", -1.0)


def operation(run_id: str, outcome: Outcome = Outcome.OK) -> Operation:
    return Operation("s", 1, "q", ("billing",), False, outcome=outcome, run_id=run_id)


def write(root: Path, *events: Event, origins: tuple[str, ...] = ("a",)) -> None:
    log = SegmentLog(root, "eventlog/0", 1 << 20, 3600)
    log.append([EventBatch(origin, 0, len(events), encode_lines(events)) for origin in origins])
    log.close()


START, END = Event("run.started", 1, run_id="run_1", seq=1), Event("run.finished", 2, run_id="run_1", seq=2)


async def test_a_log_with_every_acknowledged_run_has_no_problems(tmp_path: Path) -> None:
    write(tmp_path, START, END)
    assert await problems_of_log(tmp_path, [operation("run_1"), operation("run_2", Outcome.FAIL)]) == []


@pytest.mark.parametrize("events", [[START], [END], [START, END, END]])
async def test_a_run_that_is_not_there_whole_is_told(tmp_path: Path, events: list[Event]) -> None:
    write(tmp_path, *events)
    (problem,) = await problems_of_log(tmp_path, [operation("run_1")])
    assert problem == "of 1 acknowledged runs the start or the end is not in the log, as 'run_1'"


async def test_an_event_that_is_there_twice_is_told(tmp_path: Path) -> None:
    write(tmp_path, START, origins=("a", "a"))
    assert await problems_of_log(tmp_path, []) == ["1 events are in the log twice, as 'a-0'"]


async def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    write(tmp_path, START)
    (path,) = (tmp_path / "open").iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    (problem,) = await problems_of_log(tmp_path, [])
    assert path.name in problem


async def test_no_log_at_all_is_told(tmp_path: Path) -> None:
    assert await problems_of_log(tmp_path / "nowhere", []) == ["there is no event log"]
