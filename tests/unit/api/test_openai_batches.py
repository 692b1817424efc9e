"""The official openai client, unchanged: files and batches against a real server with a real system behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from batch_house import ACME, GLOBEX, House, housed
from openai.types import Batch

from rayflow.app.jobs.records import JobStore
from rayflow.batch.desk import Desk
from rayflow.errors import ModelRejected
from rayflow.messages import RunRequest, RunResult


def line(custom_id: str, text: str = "Hello", **body: Any) -> dict[str, Any]:
    given = {"model": "auto", "messages": [{"role": "user", "content": text}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": given}


def jsonl(*lines: object) -> bytes:
    return b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in lines)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with housed(tmp_path) as house:
        yield house


async def upload(ai: openai.AsyncOpenAI, data: bytes) -> str:
    return (await ai.files.create(file=("requests.jsonl", data), purpose="batch")).id


async def start(ai: openai.AsyncOpenAI, data: bytes, **more: Any) -> Batch:
    return await ai.batches.create(
        input_file_id=await upload(ai, data), endpoint="/v1/chat/completions", completion_window="24h", **more
    )


async def ended(ai: openai.AsyncOpenAI, batch: Batch) -> Batch:
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        await asyncio.sleep(0.05)
        batch = await ai.batches.retrieve(batch.id)
    return batch


async def lines_of(ai: openai.AsyncOpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    assert file_id is not None
    content = await ai.files.content(file_id)
    found = [json.loads(one) for one in content.text.splitlines()]
    return {one["custom_id"]: one for one in found}


async def test_a_file_goes_in_and_comes_out_as_it_was(house: House) -> None:
    ai = house.ai(ACME)
    data = jsonl(line("a"), line("b"))
    made = await ai.files.create(file=("reqs.jsonl", data), purpose="batch")
    assert (made.bytes, made.filename, made.purpose, made.status) == (len(data), "reqs.jsonl", "batch", "processed")
    assert await ai.files.retrieve(made.id) == made
    assert (await ai.files.content(made.id)).content == data
    assert [each.id async for each in ai.files.list()] == [made.id]
    assert (await ai.files.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await ai.files.retrieve(made.id)
    assert [each.id async for each in ai.files.list()] == []


async def test_a_batch_is_run_and_its_answers_are_joined_on_custom_id(house: House) -> None:
    ai = house.ai(ACME)
    data = jsonl(
        line("one"),
        line("two", model="facts", temperature=0.5),
        line("three", model="nobody"),
        line("four", temperature=9),
        line("five", model="team"),
    )
    async with house.desk() as desk:
        batch = await start(ai, data, metadata={"purpose": "test"})
        assert batch.status == "validating" and batch.metadata == {"purpose": "test"}
        desk.wake()
        batch = await ended(ai, batch)
    assert batch.status == "completed" and batch.errors is None
    counts = batch.request_counts
    assert counts is not None and (counts.total, counts.completed, counts.failed) == (5, 3, 2)
    assert batch.in_progress_at and batch.finalizing_at and batch.completed_at
    assert batch.expires_at == batch.created_at + 86_400
    good, bad = await lines_of(ai, batch.output_file_id), await lines_of(ai, batch.error_file_id)
    assert set(good) == {"one", "two", "five"} and set(bad) == {"three", "four"}
    for custom_id, model in (("one", "team"), ("two", "facts"), ("five", "team")):
        response = good[custom_id]["response"]
        assert good[custom_id]["error"] is None and response["status_code"] == 200
        completion = openai.types.chat.ChatCompletion.model_validate(response["body"])
        assert completion.choices[0].message.content and completion.model == model
        assert completion.usage is not None and completion.usage.total_tokens > 0
    assert bad["three"]["response"]["status_code"] == 404
    assert bad["four"]["response"]["status_code"] == 400
    assert "temperature" in bad["four"]["response"]["body"]["error"]["message"]
    names = {each.filename async for each in ai.files.list(purpose="batch_output")}
    assert names == {f"{batch.id}_output.jsonl", f"{batch.id}_error.jsonl"}


@pytest.mark.parametrize(
    ("data", "code", "number"),
    [
        (b"", "empty_file", None),
        (jsonl(line("a"), b"{broken"), "invalid_json_line", 2),
        (jsonl(line("a"), line("a")), "duplicate_custom_id", 2),
        (jsonl({**line("a"), "custom_id": None}), "missing_required_parameter", 1),
        (jsonl({**line("a"), "url": "/v1/embeddings"}), "mismatched_url", 1),
        (jsonl({**line("a"), "method": "GET"}), "invalid_method", 1),
        (jsonl(*(line(str(n)) for n in range(51))), "too_many_requests", 51),
    ],
)
async def test_a_file_with_a_wrong_envelope_fails_before_anything_runs(
    house: House, data: bytes, code: str, number: int | None
) -> None:
    ai = house.ai(ACME)
    async with house.desk() as desk:
        batch = await start(ai, data)
        desk.wake()
        batch = await ended(ai, batch)
    assert batch.status == "failed" and batch.output_file_id is None and batch.failed_at
    assert batch.errors is not None and batch.errors.data is not None
    assert [(error.code, error.line) for error in batch.errors.data] == [(code, number)]


async def test_a_batch_is_cancelled_before_and_after_its_end(house: House) -> None:
    ai = house.ai(ACME)
    batch = await start(ai, jsonl(line("a")))
    assert (await ai.batches.cancel(batch.id)).status == "cancelling"
    async with house.desk() as desk:
        desk.wake()
        batch = await ended(ai, batch)
        assert batch.status == "cancelled" and batch.cancelling_at and batch.cancelled_at
        with pytest.raises(openai.ConflictError):
            await ai.batches.cancel(batch.id)


async def test_requests_that_were_not_run_in_time_are_told(house: House) -> None:
    ai = house.ai(ACME)
    batch = await start(ai, jsonl(line("a"), line("b")))
    files = JobStore(house.state).files(batch.id)
    record = files.read()
    assert record is not None
    files.write(msgspec.structs.replace(record, expires_s=record.created_s))
    async with house.desk() as desk:
        desk.wake()
        batch = await ended(ai, batch)
    assert batch.status == "expired" and batch.expired_at and batch.output_file_id is None
    assert batch.request_counts is not None and batch.request_counts.failed == 2
    for told in (await lines_of(ai, batch.error_file_id)).values():
        assert told["response"] is None and told["error"]["code"] == "batch_expired"


async def test_what_is_refused_to_all_alike_is_tried_again_until_it_is_answered(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rayflow.batch.desk.PATIENCE_S", 0.0)
    honest, refusals = house.client.run, iter([ModelRejected("no quota", upstream_code="insufficient_quota")] * 2)

    async def run(request: RunRequest, timeout_s: float | None = None, **options: Any) -> RunResult:
        if refusal := next(refusals, None):
            raise refusal
        return await honest(request, timeout_s, **options)

    monkeypatch.setattr(house.client, "run", run)
    ai = house.ai(ACME)
    batch = await start(ai, jsonl(line("a"), line("b")))
    async with house.desk() as desk:
        desk.wake()
        batch = await ended(ai, batch)
    assert batch.status == "completed"
    assert set(await lines_of(ai, batch.output_file_id)) == {"a", "b"} and next(refusals, None) is None


async def test_another_tenants_files_and_batches_are_not_found(house: House) -> None:
    acme, globex = house.ai(ACME), house.ai(GLOBEX)
    batch = await start(acme, jsonl(line("a")))
    for call in (
        globex.batches.retrieve(batch.id),
        globex.batches.cancel(batch.id),
        globex.files.retrieve(batch.input_file_id),
        globex.files.content(batch.input_file_id),
        globex.files.delete(batch.input_file_id),
        globex.batches.create(
            input_file_id=batch.input_file_id, endpoint="/v1/chat/completions", completion_window="24h"
        ),
        globex.files.retrieve("file-../../etc"),
        globex.batches.retrieve("batch_..%2f..%2fetc"),
    ):
        with pytest.raises(openai.NotFoundError):
            await call
    assert [each async for each in globex.files.list()] == [] and [each async for each in globex.batches.list()] == []


async def test_batches_are_listed_page_by_page(house: House) -> None:
    ai = house.ai(ACME)
    file_id = await upload(ai, jsonl(line("a")))
    made = [
        await ai.batches.create(input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h")
        for _ in range(5)
    ]
    page = await ai.batches.list(limit=2)
    assert len(page.data) == 2 and page.has_more
    assert {each.id async for each in ai.batches.list(limit=2)} == {each.id for each in made}


async def test_a_batch_goes_on_where_another_process_has_left_it(house: House) -> None:
    ai = house.ai(ACME)
    batch = await start(ai, jsonl(*(line(f"r{n}") for n in range(40))))
    store = JobStore(house.state)
    first = Desk(house.client, None)
    running = asyncio.create_task(first.run())
    while "in_progress" not in (await asyncio.to_thread(store.get, "acme", batch.id, "openai")).times:
        await asyncio.sleep(0)
    running.cancel()  # as a kill would: nothing is written any more
    with pytest.raises(asyncio.CancelledError):
        await running
    await ai.files.delete(batch.input_file_id)  # the batch has a link of its own
    async with house.desk() as desk:
        desk.wake()
        batch = await ended(ai, batch)
    assert batch.status == "completed"
    assert set(await lines_of(ai, batch.output_file_id)) == {f"r{n}" for n in range(40)}


@pytest.mark.parametrize(
    ("endpoint", "window"), [("/v1/embeddings", "24h"), ("/v1/responses", "24h"), ("/v1/chat/completions", "1h")]
)
async def test_what_is_not_run_is_refused(house: House, endpoint: Any, window: Any) -> None:
    ai = house.ai(ACME)
    file_id = await upload(ai, jsonl(line("a")))
    with pytest.raises(openai.BadRequestError):
        await ai.batches.create(input_file_id=file_id, endpoint=endpoint, completion_window=window)


async def test_files_of_another_purpose_or_beyond_a_limit_are_refused_and_leave_nothing(house: House) -> None:
    ai = house.ai(ACME)
    with pytest.raises(openai.BadRequestError):
        await ai.files.create(file=("a.jsonl", b"x"), purpose="fine-tune")
    with pytest.raises(openai.APIStatusError) as large:
        await ai.files.create(file=("a.jsonl", b"x" * 200_000), purpose="batch")
    assert large.value.status_code == 413
    await upload(ai, b"x" * 90_000)
    with pytest.raises(openai.APIStatusError) as full:
        await upload(ai, b"x" * 90_000)
    assert full.value.status_code == 507
    kept = [path.name for path in (house.state / "files").iterdir()]
    assert len(kept) == 1 and not kept[0].startswith(".")
