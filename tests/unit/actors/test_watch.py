"""Routers say how their runs end, and who watches tells when that is not well."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest
from actor_doubles import config, settle, team

from rayflow.actors import tally
from rayflow.actors.machine import Machine
from rayflow.actors.tally import Tally
from rayflow.actors.watch import Watch
from rayflow.app.build import build_actor
from rayflow.callbacks import Callbacks
from rayflow.chat import Usage
from rayflow.clock import ManualClock
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.config.load import from_dict
from rayflow.config.transfer import dump
from rayflow.errors import Cancelled, ContentRejected, ModelError, Unavailable
from rayflow.events import Event
from rayflow.messages import Alert, Alerts, EventBatch, GetAlerts, Outcomes, Payload, RunResult

RESULT = RunResult("run_1", "s", "done", "stop", Usage(), "m", ["a"])


class Told:
    """An outbox, a fabric and a receiver of webhooks that remember."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.messages: list[Payload] = []
        self.posts: list[tuple[str, dict[str, Any]]] = []
        self.called = asyncio.Event()

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None: ...

    def tell(self, to: str, message: Payload) -> None:
        assert to == "eventlog/0"
        self.messages.append(message)

    async def deliver(self, url: str, body: bytes) -> None:
        self.posts.append((url, msgspec.json.decode(body)))
        self.called.set()


class Busy(Machine):
    def __init__(self, memory: float = 0.5) -> None:
        self.memory = memory

    def load(self) -> dict[str, float]:
        return {"cpu_usage": 0.25, "memory_usage": self.memory}


def watch(folder: Path, told: Told, clock: ManualClock, machine: Machine | None = None, **alerts: Any) -> Watch:
    made = from_dict({"name": "w", "agents": [{"name": "a"}], "alerts": alerts})
    return Watch(made, folder / "raised-alerts.json", told, told, clock, lambda: machine or Busy())  # type: ignore[arg-type]


def standing(judge: Watch, metric: str) -> Alert:
    alerts = judge.handlers[GetAlerts](GetAlerts()).alerts  # type: ignore[union-attr]
    return next(alert for alert in alerts if alert.metric == metric)


async def test_an_alert_goes_to_log_event_and_webhook(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told, clock = Told(), ManualClock()
    judge = watch(tmp_path, told, clock, webhook="https://hooks.example/a")
    judge.handlers[Outcomes](Outcomes(20, 5, 0.0))
    with caplog.at_level(logging.WARNING):
        judge.look()
    await told.called.wait()
    (event,) = told.events
    facts = {"metric": "error_rate", "direction": "above", "threshold": 0.05, "window_s": 60.0}
    assert (event.kind, event.score, event.data) == ("alert.raised", 0.25, facts)
    assert "error_rate above 0.05" in caplog.text
    ((url, body),) = told.posts
    assert url == "https://hooks.example/a"
    assert body == {"event": "alert.raised", "workflow": "w", "at": "2023-11-14T22:13:20+00:00", "value": 0.25, **facts}
    alert = standing(judge, "error_rate")
    assert (alert.firing, alert.value, alert.since_us) == (True, 0.25, clock.wall_us())
    clock.advance(120)
    judge.handlers[Outcomes](Outcomes(20, 0, 0.0))
    judge.look()
    assert told.events[-1].kind == "alert.cleared" and not standing(judge, "error_rate").firing
    await judge.stop()


async def test_full_memory_is_told_without_any_run(tmp_path: Path) -> None:
    told = Told()
    watch(tmp_path, told, ManualClock(), Busy(0.93)).look()
    assert [(event.kind, event.data["metric"], event.score) for event in told.events] == [
        ("alert.raised", "memory_usage", 0.93)
    ]


async def test_alerts_that_are_off_are_not_judged(tmp_path: Path) -> None:
    told = Told()
    judge = watch(tmp_path, told, ManualClock(), Busy(0.99), enabled=False)
    judge.handlers[Outcomes](Outcomes(100, 100, 0.0))
    judge.look()
    assert told.events == [] and judge.handlers[GetAlerts](GetAlerts()).alerts == []  # type: ignore[union-attr]


async def test_the_load_of_the_machine_goes_to_the_log(tmp_path: Path) -> None:
    told = Told()
    watch(tmp_path, told, ManualClock()).sample()
    assert [(e.kind, e.data) for e in told.events] == [("system.sampled", {"cpu_usage": 0.25, "memory_usage": 0.5})]


async def test_a_new_process_goes_on_with_what_was_raised(tmp_path: Path) -> None:
    told, clock = Told(), ManualClock()
    first = watch(tmp_path, told, clock, Busy(0.9))
    first.look()
    since = standing(first, "memory_usage").since_us
    clock.advance(10)
    second = watch(tmp_path, told, clock, Busy(0.9))
    second.start()
    second.look()
    assert len(told.events) == 1 and standing(second, "memory_usage").since_us == since
    await second.stop()


async def test_an_alert_is_over_when_its_rule_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told, clock = Told(), ManualClock()
    watch(tmp_path, told, clock, Busy(0.9)).look()
    other = watch(tmp_path, told, clock, Busy(0.9), memory_usage=0.85)
    other.start()
    other.look()
    assert [(event.kind, event.data["threshold"], event.score) for event in told.events] == [
        ("alert.raised", 0.8, 0.9),
        ("alert.cleared", 0.8, None),
        ("alert.raised", 0.85, 0.9),
    ]
    assert told.events[0].data == told.events[1].data
    assert "memory_usage above 0.8 over 60 s (the rule is gone)" in caplog.text
    assert msgspec.json.decode((tmp_path / "raised-alerts.json").read_bytes()).keys() == {
        "memory_usage above 0.85 over 60 s"
    }
    await other.stop()


async def test_a_broken_book_is_no_reason_not_to_watch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "raised-alerts.json").write_bytes(b"{")
    told = Told()
    judge = watch(tmp_path, told, ManualClock(), Busy(0.9))
    judge.start()
    judge.look()
    assert told.events and "raised-alerts.json" in caplog.text
    await judge.stop()


async def test_a_webhook_that_fails_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Gone(Callbacks):
        async def deliver(self, *_: Any) -> None:
            raise Unavailable("hooks.example cannot be told")

    told = Told()
    judge = watch(tmp_path, told, ManualClock(), Busy(0.9), webhook="https://hooks.example/")
    judge._callbacks = Gone()
    judge.look()
    await asyncio.gather(*judge._telling)
    assert "hooks.example cannot be told" in caplog.text and told.events


async def test_a_router_tells_sums_and_only_when_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "TELL_S", 3600.0)
    told = Told()
    runs = Tally(told)  # type: ignore[arg-type]
    runs.tell()
    assert told.messages == []
    runs.ended(RESULT, 0.5)
    runs.ended(RESULT, 1.5)
    runs.ended(ModelError("no"), 9.0)
    runs.ended(asyncio.CancelledError(), 9.0)
    runs.ended(Cancelled("stopped"), 9.0)
    runs.tell()
    runs.tell()
    assert told.messages == [Outcomes(3, 1, 2000.0)]
    runs.ended(Cancelled("stopped"), 9.0)
    runs.tell()
    assert len(told.messages) == 1


async def test_runs_of_a_router_are_counted_however_they_end() -> None:
    heard: list[Outcomes] = []
    async with team() as t:
        t.fabric.bind("eventlog/0", {Outcomes: heard.append, EventBatch: lambda _: None})
        await t.run("hello")
        with pytest.raises(ContentRejected):
            await t.run("")
        assert t.router._tally is not None
        t.router._tally.tell()
        await settle()
    ((runs, errors, took_ms),) = [(each.runs, each.errors, each.took_ms) for each in heard]
    assert (runs, errors) == (2, 1) and took_ms > 0


@pytest.mark.parametrize("sections", [{"alerts": {"enabled": False}}, {"monitoring": {"event_log": False}}])
async def test_where_nobody_watches_nothing_is_counted(sections: dict[str, Any]) -> None:
    async with team(config(**sections)) as t:
        assert t.router._tally is None
        assert (await t.run("hello")).content


async def test_the_event_log_actor_of_a_system_watches(tmp_path: Path) -> None:
    made = from_dict({"name": "w", "agents": [{"name": "a"}], "storage": {"state": str(tmp_path)}})
    fabric = InProcessFabric()
    actor = build_actor("eventlog", "eventlog/0", dump(made), fabric)
    await actor.start()
    fabric.bind("eventlog/0", actor.handlers)
    alerts: Alerts = await fabric.ask("eventlog/0", GetAlerts(), 5.0)
    assert [alert.metric for alert in alerts.alerts] == ["response_time", "error_rate", "memory_usage"]
    fabric.unbind("eventlog/0")
    await actor.stop()


def test_this_machine_is_measured() -> None:
    machine = Machine()
    assert 0 < (machine.memory_usage() or 0) < 1
    assert machine.cpu_usage() is None  # it takes two looks
    assert set(Machine().load()) == {"memory_usage"}


def test_a_container_counts_what_it_may_use(tmp_path: Path) -> None:
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    proc.mkdir()
    cgroup.mkdir()
    (proc / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 700 kB\n")
    (cgroup / "memory.max").write_text("max\n")
    assert Machine(proc, cgroup).memory_usage() == pytest.approx(0.3)
    for name, text in (
        ("memory.max", "1000"),
        ("memory.current", "900"),
        ("memory.stat", "anon 1\ninactive_file 100\n"),
    ):
        (cgroup / name).write_text(text)
    assert Machine(proc, cgroup).memory_usage() == pytest.approx(0.8)


def test_processors_are_busy_for_what_they_were_not_idle(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    machine = Machine(tmp_path, tmp_path)
    stat.write_text("cpu 100 0 100 700 100 0 0 0 0 0\n")
    assert machine.cpu_usage() is None
    stat.write_text("cpu 150 0 110 720 120 0 0 0 0 0\n")
    assert machine.cpu_usage() == pytest.approx(0.6)
    assert machine.memory_usage() is None and machine.load() == {}
