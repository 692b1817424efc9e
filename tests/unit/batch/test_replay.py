from __future__ import annotations

import asyncio
from itertools import chain, repeat

import pytest
from conftest import ScriptedClient

from rayflow.batch.items import Item
from rayflow.batch.replay import FIRST_WAIT_S, LONGEST_WAIT_S, MAX_TRIES, Replay
from rayflow.batch.row import Row
from rayflow.clock import ManualClock
from rayflow.errors import ModelTimeout, Overloaded, Unavailable

ITEM = Item(4, "q4", ["one", "two", "three"], "Be brief.", line=9, byte=120)


class Patience:
    """Sleeps in no time and remembers how long."""

    def __init__(self, clock: ManualClock) -> None:
        self.waits: list[float] = []
        self._clock = clock

    async def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)
        self._clock.advance(seconds)
        await asyncio.sleep(0)


async def replay(client: ScriptedClient, item: Item = ITEM, attempts: int = 0) -> tuple[Row, list[float]]:
    clock = ManualClock()
    patience = Patience(clock)
    row = await Replay(client, "job", clock=clock, sleep=patience).run(item, "batch-job-1-4", attempts)
    return row, patience.waits


async def test_the_turns_of_an_item_run_in_order_in_one_session() -> None:
    client = ScriptedClient()
    row, _ = await replay(client)
    assert client.peak == 1
    assert client.asked() == ["one", "two", "three"]
    assert row.answers == ["echo: one", "echo: two", "echo: three"]
    assert row.agents == [["echo"]] * 3
    assert (row.prompt_tokens, row.completion_tokens, row.attempts) == (9, 15, 1)
    assert (row.ordinal, row.id, row.status, row.line, row.byte) == (4, "q4", "ok", 9, 120)
    assert row.run_ids == [call.run_id for call in client.calls] and len(set(row.run_ids)) == 3
    for call in client.calls:
        assert (call.channel, call.job_id, call.item_id) == ("batch", "job", "q4")
        assert (call.session_id, call.system_prompt) == ("batch-job-1-4", "Be brief.")
    assert [call.new_session for call in client.calls] == [True, False, False]


async def test_an_item_stops_at_its_first_failed_turn_and_keeps_what_was_answered() -> None:
    client = ScriptedClient()
    client.failures["two"] = iter([ModelTimeout("no token within 5 s", phase="first_token")])
    row, waits = await replay(client)
    assert client.asked() == ["one", "two"]
    assert (row.status, row.error, row.error_message) == ("error", "model-timeout", "no token within 5 s")
    assert row.answers == ["echo: one"] and len(row.run_ids) == 2 and row.turns == ITEM.turns
    assert not waits


async def test_an_unexpected_exception_is_the_error_of_its_item(caplog: pytest.LogCaptureFixture) -> None:
    client = ScriptedClient()
    client.failures["one"] = iter([KeyError("secret")])
    row, _ = await replay(client)
    assert row.error == "internal-error" and "secret" not in (row.error_message or "")
    assert "item 4 of job job failed unexpectedly" in caplog.text


@pytest.mark.parametrize("kind", [Overloaded, Unavailable])
async def test_a_refused_turn_is_sent_again_under_its_run_id_after_the_named_wait(
    kind: type[Overloaded] | type[Unavailable],
) -> None:
    client = ScriptedClient()
    client.failures["two"] = iter([kind("full", retry_after_s=2.0), kind("full", retry_after_s=2.0)])
    row, waits = await replay(client)
    assert row.status == "ok" and row.attempts == 3
    assert client.asked() == ["one", "two", "two", "two", "three"]
    assert len({call.run_id for call in client.calls}) == 3
    assert len(waits) == 2 and all(2.0 <= wait <= 2.5 for wait in waits)
    assert row.duration_ms == pytest.approx(sum(waits) * 1e3, abs=0.01)


async def test_waits_grow_where_nobody_names_one_and_end_after_a_bounded_number() -> None:
    client = ScriptedClient()
    client.failures["one"] = repeat(Unavailable("not ready"))
    row, waits = await replay(client, attempts=2)
    assert (row.status, row.error) == ("error", "unavailable")
    assert len(client.calls) == MAX_TRIES and row.attempts == 2 + MAX_TRIES
    assert all(FIRST_WAIT_S * 2**n <= wait <= FIRST_WAIT_S * 2**n * 1.25 for n, wait in enumerate(waits))


async def test_no_wait_is_longer_than_the_limit() -> None:
    client = ScriptedClient()
    client.failures["one"] = chain([Overloaded("full", retry_after_s=3600)])
    _, waits = await replay(client)
    assert len(waits) == 1 and waits[0] <= LONGEST_WAIT_S * 1.25


async def test_cancelling_is_not_the_error_of_an_item() -> None:
    client = ScriptedClient()
    held: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    client.gate = lambda request: held
    running = asyncio.create_task(replay(client))
    while not client.in_flight:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
