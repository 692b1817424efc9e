"""`POST /analytics/query` on a real log: what is answered, to whom, and how it is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pyarrow as pa
import pytest
from hostile.attack import PROBLEM, ask
from hostile.scene import KEYS, RUNS, Scene

from rayflow.analytics.named import named_queries


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, sql_max_rows=50, sql_max_bytes=20_000, sql_timeout_s=30)


@pytest.fixture
async def served(scene: Scene) -> AsyncIterator[httpx2.AsyncClient]:
    async with scene.served() as http:
        yield http


async def test_an_answer_has_columns_rows_and_says_whether_it_is_whole(served: httpx2.AsyncClient) -> None:
    answer = await ask(served, "SELECT count(*) AS runs, $word AS word FROM runs", params={"word": "x"})
    assert answer.json() == {
        "columns": [{"name": "runs", "type": "BIGINT"}, {"name": "word", "type": "VARCHAR"}],
        "rows": [{"runs": RUNS // 3, "word": "x"}],
        "row_count": 1,
        "truncated": False,
        "incomplete": False,
        "unreadable": [],
    }


async def test_a_tenant_sees_its_own_rows_and_the_operator_all_of_them(served: httpx2.AsyncClient) -> None:
    sql = "SELECT count(*) AS n, list_sort(list(DISTINCT coalesce(tenant, ''))) AS tenants FROM runs"
    seen = {who: (await ask(served, sql, who)).json()["rows"][0] for who in KEYS}
    assert seen["acme"] == {"n": RUNS // 3, "tenants": ["acme"]}
    assert seen["globex"] == {"n": RUNS // 3, "tenants": ["globex"]}
    assert seen[""] == {"n": RUNS, "tenants": ["", "acme", "globex"]}


async def test_rows_beyond_the_limit_are_cut_and_that_is_said(served: httpx2.AsyncClient) -> None:
    for limit, rows in ((None, 50), (7, 7), (1000, 50)):
        answer = (await ask(served, "FROM range(60)", limit=limit)).json()
        assert (len(answer["rows"]), answer["row_count"], answer["truncated"]) == (rows, rows, True)
    assert (await ask(served, "FROM range(50)")).json()["truncated"] is False


async def test_arrow_and_csv_are_answered_as_such(served: httpx2.AsyncClient) -> None:
    sql = "SELECT range AS n, 'a,b' AS text FROM range(60)"
    arrow = await ask(served, sql, format="arrow")
    assert arrow.headers["content-type"] == "application/vnd.apache.arrow.stream"
    assert arrow.headers["x-rayflow-truncated"] == "true"
    assert pa.ipc.open_stream(arrow.content).read_all().column("n").to_pylist() == list(range(50))
    csv = await ask(served, sql, format="csv", limit=1)
    assert csv.headers["content-type"].startswith("text/csv")
    assert csv.text == 'n,text\r\n0,"a,b"\r\n'


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        ({"sql": "DROP VIEW events"}, 422, "sql-not-allowed"),
        ({"sql": "SELECT repeat('x', 30000)"}, 413, "sql-too-large"),
        ({"sql": "SELECT 1", "name": "slowest_runs"}, 400, "invalid-request"),
        ({}, 400, "invalid-request"),
        ({"sql": "SELECT 1", "format": "xml"}, 400, "invalid-request"),
        ({"sql": "SELECT 1", "limit": 0}, 400, "invalid-request"),
        ({"sql": "SELECT 1", "trusted": True}, 400, "invalid-request"),
        ({"name": "slowest_run"}, 404, "not-found"),
        ({"name": "slowest_runs", "params": {"x": "1"}}, 400, "invalid-request"),
    ],
)
async def test_what_is_refused(served: httpx2.AsyncClient, body: dict[str, object], status: int, slug: str) -> None:
    answer = await served.post("/analytics/query", json=body, headers={"x-api-key": KEYS["acme"]})
    assert (answer.status_code, answer.json()["type"]) == (status, PROBLEM + slug)


async def test_a_question_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    scene = Scene(tmp_path, sql_timeout_s=3)
    async with scene.served() as http:
        answer = await ask(
            http, "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range * b.range = 3"
        )
    assert (answer.status_code, answer.json()["type"]) == (408, PROBLEM + "sql-timeout")
    assert answer.json()["limit_s"] == 3


async def test_named_queries_are_listed_and_every_one_of_them_is_answered(served: httpx2.AsyncClient) -> None:
    headers = {"x-api-key": KEYS["acme"]}
    listed = (await served.get("/analytics/queries", headers=headers)).json()["queries"]
    assert [query["name"] for query in listed] == [*named_queries()]
    for query in listed:
        params = {name: "x" for name, default in query["params"].items() if default is None}
        body = {"name": query["name"], "params": params}
        answer = await served.post("/analytics/query", json=body, headers=headers)
        assert answer.status_code == 200, (query["name"], answer.text)


async def test_a_damaged_file_is_left_out_and_named(scene: Scene, served: httpx2.AsyncClient) -> None:
    whole = (await ask(served, "SELECT count(*) AS n FROM events")).json()["rows"][0]["n"]
    file = next(iter(sorted(scene.events.glob("date=*/*.parquet"))))
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 0x10
    file.write_bytes(data)
    answer = (await ask(served, "SELECT count(*) AS n FROM events")).json()
    assert answer["incomplete"] is True
    assert answer["unreadable"] == [str(file.relative_to(scene.events))]
    assert 0 < answer["rows"][0]["n"] < whole


async def test_where_there_is_no_log_that_is_said(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.events.rename(tmp_path / "elsewhere")
    async with scene.served() as http:
        answer = await ask(http, "SELECT 1")
    assert (answer.status_code, answer.json()["type"]) == (404, PROBLEM + "not-found")


async def test_questions_at_once_wait_for_their_turn(served: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(*(ask(served, f"SELECT {n} AS n") for n in range(6)))
    assert [answer.json()["rows"] for answer in answers] == [[{"n": n}] for n in range(6)]
