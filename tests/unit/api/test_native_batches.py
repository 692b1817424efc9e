"""Batch jobs in rayflow's own terms: POST /batches and what follows."""

from __future__ import annotations

import asyncio
import hmac
import io
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pyarrow.parquet as pq
import pytest
from batch_house import ACME, GLOBEX, House, housed

from rayflow.app.jobs.records import JobStore

SECRET = "of the callbacks"
ENDED = ("completed", "failed", "cancelled", "paused")


class Listener:
    """An endpoint for callbacks: refuses as often as told, then takes them."""

    def __init__(self) -> None:
        self.refusals = 0
        self.told: list[tuple[dict[str, str], bytes]] = []
        self.url = ""

    async def __aenter__(self) -> Listener:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/done"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)}
        self.told.append((headers, await reader.readexactly(int(headers["content-length"]))))
        status = b"503 Busy" if len(self.told) <= self.refusals else b"200 OK"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    async with Listener() as listener:
        yield listener


@pytest.fixture
async def house(tmp_path: Path, listener: Listener) -> AsyncIterator[House]:
    (tmp_path / "data").mkdir()
    sections: dict[str, Any] = {
        "batch": {"input_roots": [str(tmp_path / "data")], "callback_secret": SECRET, "concurrency": 4},
        "security": {"callback_hosts": [f"http://{listener.url.split('/')[2]}"]},
    }
    async with housed(tmp_path / "state", **sections) as house:
        yield house


@pytest.fixture
def http(house: House) -> httpx2.AsyncClient:
    return house.http(ACME)


def items(number: int) -> dict[str, Any]:
    return {"items": [{"id": f"q{n}", "prompt": f"Question {n}"} for n in range(1, number + 1)]}


async def ended(http: httpx2.AsyncClient, job_id: str) -> dict[str, Any]:
    while True:
        job: dict[str, Any] = (await http.get(f"/batches/{job_id}")).json()
        if job["status"] in ENDED:
            return job
        await asyncio.sleep(0.05)


async def done(http: httpx2.AsyncClient, house: House, body: dict[str, Any]) -> dict[str, Any]:
    answer = await http.post("/batches", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["status"] == "queued"
    async with house.desk():
        return await ended(http, answer.json()["job_id"])


async def test_a_job_is_queued_run_and_its_results_are_given_out(house: House, http: httpx2.AsyncClient) -> None:
    rows = {**items(6), "items": [*items(6)["items"], {"id": "bad"}]}
    job = await done(http, house, {"input": rows, "metadata": {"for": "test"}})
    assert job["status"] == "completed" and job["metadata"] == {"for": "test"}
    assert job["counts"] == {"total": 7, "completed": 6, "failed": 1}
    assert job["started_at"] and job["finished_at"] and job["prompt_tokens"] > 0
    answer = await http.get(f"/batches/{job['job_id']}/results")
    found = [json.loads(line) for line in answer.text.splitlines()]
    assert [row["id"] for row in found] == [f"q{n}" for n in range(1, 7)] + ["bad"]
    assert all(row["answers"] for row in found[:6]) and found[6]["error"] == "invalid-request"
    parquet = await http.get(f"/batches/{job['job_id']}/results", params={"format": "parquet"})
    assert pq.read_table(io.BytesIO(parquet.content)).to_pylist() == found
    left = [path.name for path in (house.state / "batches" / job["job_id"]).iterdir()]
    assert not [name for name in left if name.startswith(".results")]


async def test_a_file_that_was_handed_in_is_read_by_its_kind(house: House, http: httpx2.AsyncClient) -> None:
    made = await house.ai(ACME).files.create(file=("rows.csv", b"id,prompt\na,Hello\nb,Bye\n"), purpose="batch")
    job = await done(http, house, {"input": {"file_id": made.id}})
    assert job["counts"] == {"total": 2, "completed": 2, "failed": 0}


async def test_files_of_the_server_are_read_only_where_that_is_allowed(
    house: House, http: httpx2.AsyncClient, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    (data / "a.jsonl").write_text('{"prompt": "Hello"}\n')
    (tmp_path / "secret.jsonl").write_text('{"prompt": "secret"}\n')
    (data / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    job = await done(http, house, {"input": {"paths": [str(data / "a.jsonl")]}})
    assert job["counts"]["completed"] == 1
    for path in (
        str(tmp_path / "secret.jsonl"),
        f"{data}/../secret.jsonl",
        str(data / "link.jsonl"),
        "data/a.jsonl",
        "/etc/passwd",
        "s3://bucket/a.jsonl",
        f"{data}-other/a.jsonl",
    ):
        refused = await http.post("/batches", json={"input": {"paths": [path]}})
        assert refused.status_code == 400 and refused.json()["param"] == "input.paths[0]", path
    job = await done(http, house, {"input": {"paths": [str(data)]}})  # the link is found when the folder is listed
    assert job["status"] == "failed" and "batch.input_roots" in job["reason"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": {}}, "input"),
        ({"input": {"items": [], "file_id": "x"}}, "input"),
        ({"input": {"items": []}}, "input.items"),
        ({"input": {"items": [{}]}, "mode": "judge"}, "judging"),
        ({"input": {"items": [{}]}, "agent": "nobody"}, "agent"),
        ({"input": {"items": [{}]}, "concurrency": 5}, "concurrency"),
        ({"input": {"items": [{}]}, "feeders": 5}, "feeders"),
        ({"input": {"items": [{}]}, "callback_url": "http://127.0.0.1:1/x"}, "callback_url"),
        ({"input": {"items": [{}]}, "callback_url": "https://user:pw@example.com/"}, "callback_url"),
        ({"input": {"items": [{}]}, "where": "1=1"}, "where"),
    ],
)
async def test_what_cannot_be_run_is_refused_by_name(
    http: httpx2.AsyncClient, body: dict[str, Any], param: str
) -> None:
    answer = await http.post("/batches", json=body)
    assert answer.status_code == 400 and answer.json()["param"] == param


async def test_jobs_of_others_are_not_found(house: House, http: httpx2.AsyncClient) -> None:
    job_id = (await http.post("/batches", json={"input": items(1)})).json()["job_id"]
    globex = house.http(GLOBEX)
    for method, path in (("GET", ""), ("GET", "/results"), ("POST", "/cancel"), ("POST", "/resume")):
        assert (await globex.request(method, f"/batches/{job_id}{path}")).status_code == 404
    assert (await globex.get("/batches")).json() == {"jobs": [], "has_more": False}
    assert [job["job_id"] for job in (await http.get("/batches")).json()["jobs"]] == [job_id]
    assert (await http.get(f"/v1/batches/{job_id}")).status_code == 404


@pytest.mark.parametrize("feeders", [1, 2])
async def test_a_job_is_cancelled_while_it_runs_and_resumed(
    house: House, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, feeders: int
) -> None:
    monkeypatch.setattr("rayflow.batch.work.REPORT_S", 0.05)
    body = {"input": items(60), "rows_per_s": 20, "concurrency": feeders, "feeders": feeders}
    job_id = (await http.post("/batches", json=body)).json()["job_id"]
    async with house.desk() as desk:
        while (await http.get(f"/batches/{job_id}")).json()["counts"]["completed"] < 3:
            await asyncio.sleep(0.05)
        assert (await http.post(f"/batches/{job_id}/cancel")).json()["status"] == "cancelling"
        job = await ended(http, job_id)
        assert job["status"] == "cancelled" and 3 <= job["counts"]["completed"] < 60
        assert (await http.post(f"/batches/{job_id}/cancel")).status_code == 409
        assert (await http.post(f"/batches/{job_id}/resume")).json()["status"] == "queued"
        desk.wake()
        job = await ended(http, job_id)
    assert job["status"] == "completed" and job["counts"] == {"total": 60, "completed": 60, "failed": 0}
    rows = (await http.get(f"/batches/{job_id}/results")).text.splitlines()
    assert [json.loads(row)["ordinal"] for row in rows] == list(range(1, 61))
    assert (await http.post(f"/batches/{job_id}/resume")).status_code == 409


async def test_the_end_of_a_job_is_told_signed_and_again_where_it_was_not_taken(
    house: House, http: httpx2.AsyncClient, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rayflow.batch.notice.PAUSES_S", (0, 0))
    listener.refusals = 1
    answer = await http.post("/batches", json={"input": items(2), "callback_url": listener.url})
    job_id = answer.json()["job_id"]
    async with house.desk():
        while (await http.get(f"/batches/{job_id}")).json()["callback"]["state"] == "waiting":
            await asyncio.sleep(0.05)
    callback = (await http.get(f"/batches/{job_id}")).json()["callback"]
    assert callback == {"url": listener.url, "state": "delivered", "attempts": 2, "error": ""}
    headers, body = listener.told[-1]
    told = json.loads(body)
    assert (told["job_id"], told["status"]) == (job_id, "completed") and headers["x-rayflow-job"] == job_id
    at, _, given = headers["x-rayflow-signature"].partition(",v1=")
    expected = hmac.new(SECRET.encode(), at.removeprefix("t=").encode() + b"." + body, sha256).hexdigest()
    assert hmac.compare_digest(given, expected)


async def test_a_callback_that_is_never_taken_is_given_up(
    house: House, http: httpx2.AsyncClient, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rayflow.batch.notice.PAUSES_S", (0, 0))
    listener.refusals = 100
    answer = await http.post("/batches", json={"input": items(1), "callback_url": listener.url})
    job_id = answer.json()["job_id"]
    async with house.desk():
        while (await http.get(f"/batches/{job_id}")).json()["callback"]["state"] == "waiting":
            await asyncio.sleep(0.05)
    job = (await http.get(f"/batches/{job_id}")).json()
    assert job["status"] == "completed"
    assert (
        job["callback"]["state"] == "failed" and job["callback"]["attempts"] == 3 and "503" in job["callback"]["error"]
    )


async def test_conversations_are_judged(house: House, http: httpx2.AsyncClient) -> None:
    talk = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi"}]
    body = {
        "input": {"items": [{"conversations": talk}]},
        "mode": "judge",
        "judging": {"instruction": "Was it polite?"},
    }
    job = await done(http, house, body)
    assert job["counts"] == {"total": 1, "completed": 1, "failed": 0}


async def test_a_desk_ends_when_it_is_idle_and_waits_for_nothing_else(house: House, http: httpx2.AsyncClient) -> None:
    from rayflow.batch.desk import Desk

    await Desk(house.client, 0.0).run()
    job_id = (await http.post("/batches", json={"input": items(1)})).json()["job_id"]
    await Desk(house.client, 0.0).run()
    assert (await http.get(f"/batches/{job_id}")).json()["status"] == "completed"
    assert not JobStore(house.state).waiting()
