from __future__ import annotations

import json

import pytest
from faults import command
from faults.command import ALL, main
from faults.fault import Fault
from faults.report import BrokenOff


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int, float]]:
    """What would have been run; every run breaks off."""
    asked: list[tuple[str, int, int, float]] = []

    def run(fault: Fault, times: int, seed: int, rate: float) -> BrokenOff:
        asked.append((fault.name, times, seed, rate))
        return BrokenOff(fault.name, ["no power"])

    monkeypatch.setattr(command, "_run", run)
    return asked


def test_the_list_names_every_fault_and_its_promise(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(ALL)
    assert all(fault.promise in line for fault, line in zip(ALL.values(), lines, strict=True))


def test_json_is_one_object_and_a_broken_promise_is_exit_code_1(
    ran: list[tuple[str, int, int, float]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--fault", "agent", "--fault", "router", "--kills", "2", "--seed", "9", "--json"]) == 1
    assert ran == [("agent", 2, 9, 50.0), ("router", 2, 9, 50.0)]
    said = json.loads(capsys.readouterr().out)
    assert said["passed"] is False
    assert said["faults"][0] == {"fault": "agent", "reasons": ["no power"], "passed": False}


def test_without_a_name_every_fault_runs_as_often_as_it_says(ran: list[tuple[str, int, int, float]]) -> None:
    main([])
    assert [(name, times) for name, times, _, _ in ran] == [(fault.name, fault.times) for fault in ALL.values()]


def test_the_table_has_a_row_and_the_reasons_of_each(
    ran: list[tuple[str, int, int, float]], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--fault", "store-200"])
    out = capsys.readouterr().out.splitlines()
    assert out[1].startswith("store-200")
    assert out[1].endswith("FAIL")
    assert out[2] == "store-200: no power"


def test_an_unknown_fault_is_a_wrong_argument(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--fault", "earthquake"])
    assert ended.value.code == 2
    assert "earthquake" in capsys.readouterr().err
