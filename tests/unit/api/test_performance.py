"""Statistics, reports, alerts and feedback over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from api_doubles import in_memory
from support import synthetic_log
from support.report_oracle import differences
from support.sql import asking

from rayflow.analytics.analyst import Answer, Column, Question
from rayflow.analytics.kpis import CATEGORIES
from rayflow.analytics.reports import Report
from rayflow.api.http import create_app
from rayflow.app import feedback
from rayflow.errors import UnknownAddress
from rayflow.events import Event
from rayflow.messages import Alert, Alerts, GetAlerts
from tests.support.whole import Whole, whole

ACME, GLOBEX, OPERATOR = "rf_key_of_acme", "rf_key_of_globex", "rf_key_of_the_operator"
TENANTS = [{"name": "acme", "api_keys": [ACME]}, {"name": "globex", "api_keys": [GLOBEX]}]
DAYS = {"since": "2026-11-20T12:00", "until": "2026-11-21T12:00"}


class Analyst:
    """Answers from Parquet files; of a tenant, only from its rows. `asked`: what was asked."""

    def __init__(self, folder: Path, events: list[Event]) -> None:
        self.files = synthetic_log.write(folder / "all", events)
        of = {tenant: [event for event in events if event.tenant == tenant] for tenant in ("acme", "globex")}
        self.files_of = {tenant: synthetic_log.write(folder / tenant, own) for tenant, own in of.items()}
        self.asked: list[Question] = []
        self.unreadable: dict[str, str] = {}

    async def ask(self, question: Question) -> Answer:
        self.asked.append(question)
        files = self.files if question.trusted else self.files_of[question.tenant]
        rows = await asking(files)(question.sql, question.params)
        return Answer([Column("any", "any")], len(rows), json.dumps(rows).encode(), unreadable=self.unreadable)


@pytest.fixture(scope="module")
def analyst(tmp_path_factory: pytest.TempPathFactory) -> Analyst:
    return Analyst(tmp_path_factory.mktemp("log"), synthetic_log.events(runs=120))


@pytest.fixture
async def world() -> AsyncIterator[Whole]:
    async with whole(tenants=TENANTS, security={"api_keys": [OPERATOR]}) as made:
        yield made


@pytest.fixture
async def http(world: Whole, analyst: Analyst) -> AsyncIterator[httpx2.AsyncClient]:
    analyst.asked.clear()
    analyst.unreadable.clear()
    world.ingress()
    app = create_app(world.clients[0], analyst=analyst)  # type: ignore[arg-type]
    async with in_memory(app) as client:
        yield client


def key(value: str = OPERATOR) -> dict[str, str]:
    return {"x-api-key": value}


async def test_a_report_over_http_is_the_one_that_the_files_say(http: httpx2.AsyncClient, analyst: Analyst) -> None:
    answer = await http.get("/analytics/report", params=DAYS, headers=key())
    report = msgspec.json.decode(answer.content, type=Report)
    assert differences(report, analyst.files) == []
    assert all(question.trusted for question in analyst.asked)


async def test_a_tenant_gets_a_report_on_its_own_runs(http: httpx2.AsyncClient, analyst: Analyst) -> None:
    answer = await http.get("/analytics/report", params=DAYS, headers=key(ACME))
    report = msgspec.json.decode(answer.content, type=Report)
    assert differences(report, analyst.files_of["acme"]) == []
    assert {(question.tenant, question.trusted) for question in analyst.asked} == {("acme", False)}


@pytest.mark.parametrize(
    ("form", "media", "begins"),
    [
        ("html", "text/html", b"<!doctype html>"),
        ("markdown", "text/markdown", b"# Report"),
        ("text", "text/plain", b"Report"),
    ],
)
async def test_a_report_is_written_as_asked(http: httpx2.AsyncClient, form: str, media: str, begins: bytes) -> None:
    answer = await http.get("/analytics/report", params={**DAYS, "format": form, "compare": "none"}, headers=key())
    assert answer.headers["content-type"].startswith(media) and answer.content.startswith(begins)


async def test_a_report_says_which_files_it_lacks(http: httpx2.AsyncClient, analyst: Analyst) -> None:
    analyst.unreadable["date=2026-11-20/a.parquet"] = "torn"
    answer = await http.get("/analytics/report", params=DAYS, headers=key())
    assert answer.json()["unreadable"] == {"date=2026-11-20/a.parquet": "torn"}


async def test_the_statistics_have_their_names_and_agree_with_the_report(http: httpx2.AsyncClient) -> None:
    stats = (await http.get("/performance/stats", params=DAYS, headers=key())).json()
    report = msgspec.json.decode((await http.get("/analytics/report", params=DAYS, headers=key())).content, type=Report)
    for name in CATEGORIES:
        assert stats[name] == pytest.approx({each.name: each.value for each in report.categories[name]})
    assert stats["average_execution_time"] == pytest.approx(report.measure("response_time").value)
    workflows = {row["workflow"]: row for row in report.table("workflows").rows}
    assert stats["workflow_counts"] == {name: row["runs"] for name, row in workflows.items()}
    rates = {name: row["success_rate"] for name, row in workflows.items()}
    assert stats["success_rates"] == pytest.approx(rates)
    assert sum(step["runs"] for step in stats["performance_trends"]) == report.measure("runs").value
    assert stats["performance_trends"][0]["at"] >= "2026-11-20T12:00"


@pytest.mark.parametrize("given", [{"since": "soon"}, {"since": "1d", "until": "2d"}, {"since": "99999999w"}])
async def test_a_period_that_is_none_is_refused(http: httpx2.AsyncClient, given: dict[str, str]) -> None:
    answer = await http.get("/performance/stats", params=given, headers=key())
    assert answer.status_code == 400 and answer.json()["param"] in ("since", "until")


async def test_alerts_are_those_of_whoever_watches(http: httpx2.AsyncClient, world: Whole) -> None:
    raised = Alert("error_rate", "above", 0.05, 60.0, True, 0.2, 1_700_000_000_000_000)
    world.fabric.bind(
        "eventlog/0", {GetAlerts: lambda _: Alerts([raised, Alert("throughput", "below", 1, 60.0, False)])}
    )
    first, second = (await http.get("/alerts", headers=key())).json()["alerts"]
    assert (first["metric"], first["firing"], first["value"], first["since"]) == (
        "error_rate", True, 0.2, "2023-11-14T22:13:20Z",
    )  # fmt: skip
    assert (second["firing"], second["value"], second["since"]) == (False, None, None)


async def test_without_whoever_watches_alerts_are_not_available(http: httpx2.AsyncClient, world: Whole) -> None:
    def gone(_: GetAlerts) -> Alerts:
        raise UnknownAddress("there is no eventlog/0")

    world.fabric.bind("eventlog/0", {GetAlerts: gone})
    assert (await http.get("/alerts", headers=key())).status_code == 503


class TestFeedback:
    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(feedback, "FRESH_S", 0.0)

    @pytest.fixture
    def run(self, analyst: Analyst) -> Event:
        return next(e for e in synthetic_log.events(runs=120) if e.kind == "run.finished" and e.tenant == "acme")

    async def given(self, world: Whole) -> list[Event]:
        await world.clients[0].flush()
        return [event for event in world.events if event.kind == "feedback.given"]

    async def test_a_thumb_for_a_run_becomes_an_event(self, http: httpx2.AsyncClient, world: Whole, run: Event) -> None:
        body = {"run_id": run.run_id, "thumb": "down", "comment": "not what I asked, write to me@example.com"}
        answer = await http.post("/feedback", json=body, headers=key(ACME))
        assert answer.status_code == 201, answer.text
        said = answer.json()
        assert (said["run_id"], said["score"], said["session_id"]) == (run.run_id, -1.0, run.session_id)
        (event,) = await self.given(world)
        assert (event.run_id, event.session_id, event.user_id) == (run.run_id, run.session_id, run.user_id)
        assert (event.tenant, event.score, event.data["thumb"]) == ("acme", -1.0, "down")
        assert "me@example.com" not in event.data["comment"] and "not what I asked" in event.data["comment"]

    async def test_the_id_of_a_chat_completion_names_its_run(
        self, http: httpx2.AsyncClient, world: Whole, run: Event
    ) -> None:
        body = {"run_id": f"chatcmpl-{run.run_id}", "score": 0.5, "user_id": "boss"}
        assert (await http.post("/feedback", json=body, headers=key(ACME))).status_code == 201
        (event,) = await self.given(world)
        assert (event.run_id, event.user_id, event.score) == (run.run_id, "boss", 0.5)

    async def test_a_run_of_another_tenant_is_not_there(
        self, http: httpx2.AsyncClient, world: Whole, run: Event
    ) -> None:
        for who in (GLOBEX, OPERATOR):
            answer = await http.post("/feedback", json={"run_id": run.run_id, "thumb": "up"}, headers=key(who))
            assert answer.status_code == 404
        assert await self.given(world) == []

    async def test_a_session_of_ones_own_can_be_judged_as_a_whole(self, http: httpx2.AsyncClient, world: Whole) -> None:
        session = (await http.post("/sessions", json={"user_id": "ann"}, headers=key(ACME))).json()["session_id"]
        body = {"session_id": session, "score": 1}
        assert (await http.post("/feedback", json=body, headers=key(GLOBEX))).status_code == 404
        assert (await http.post("/feedback", json=body, headers=key(ACME))).status_code == 201
        (event,) = await self.given(world)
        assert (event.session_id, event.run_id, event.user_id, event.score) == (session, "", "ann", 1.0)

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ({}, "score"),
            ({"score": 1}, "run_id"),
            ({"run_id": "run_1"}, "score"),
            ({"run_id": "run_1", "score": 2}, "score"),
            ({"run_id": "run_1", "thumb": "sideways"}, "thumb"),
            ({"run_id": "run_1", "thumb": "up", "score": -0.5}, "score"),
            ({"run_id": "a b", "thumb": "up"}, "run_id"),
            ({"run_id": "run_1", "thumb": "up", "coment": "x"}, "coment"),
            ({"run_id": "run_1", "thumb": "up", "comment": "x" * 5000}, "comment"),
        ],
    )
    async def test_what_says_nothing_or_two_things_is_refused(
        self, http: httpx2.AsyncClient, body: dict[str, Any], param: str
    ) -> None:
        answer = await http.post("/feedback", json=body, headers=key())
        assert (answer.status_code, answer.json()["param"]) == (400, param)

    async def test_a_session_that_is_not_the_runs_is_refused(self, http: httpx2.AsyncClient, run: Event) -> None:
        body = {"run_id": run.run_id, "session_id": "another", "thumb": "up"}
        assert (await http.post("/feedback", json=body, headers=key(ACME))).json()["param"] == "session_id"

    async def test_without_a_log_there_is_no_place_for_it(self, analyst: Analyst) -> None:
        async with whole(monitoring={"event_log": False}) as world:
            world.ingress()
            app = create_app(world.clients[0], analyst=analyst)  # type: ignore[arg-type]
            async with in_memory(app) as http:
                answer = await http.post("/feedback", json={"run_id": "run_1", "thumb": "up"})
        assert answer.status_code == 409 and "monitoring.event_log" in answer.json()["detail"]
