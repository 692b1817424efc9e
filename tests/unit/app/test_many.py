"""Many items from Python: one outcome each, in order, a bounded number at a time."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from rayflow.app.many import AHEAD, Outcome, in_order
from rayflow.app.orchestrator import Orchestrator


class Gates:
    """Work that waits until its gate opens."""

    def __init__(self) -> None:
        self.gates: dict[int, asyncio.Future[None]] = {}
        self.begun: list[int] = []
        self.busy = self.peak = 0
        self.changed = asyncio.Condition()

    async def work(self, item: int) -> Outcome:
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        gate = self.gates[item] = asyncio.get_running_loop().create_future()
        async with self.changed:
            self.begun.append(item)
            self.changed.notify_all()
        try:
            await gate
        finally:
            self.busy -= 1
        return {"input": item}

    async def open(self, item: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: item in self.begun)
        self.gates[item].set_result(None)


async def test_a_slow_item_holds_up_nobody_and_the_order_is_kept() -> None:
    gates = Gates()
    running = asyncio.create_task(_all(gates, range(8), 2))
    for item in range(1, 8):
        await gates.open(item)
    await gates.open(0)
    assert [outcome["input"] for outcome in await running] == [*range(8)]
    assert gates.peak == 2


async def test_what_waits_to_be_told_is_bounded() -> None:
    gates = Gates()
    running = asyncio.create_task(_all(gates, range(AHEAD + 5), 1))
    await gates.open(0)
    for item in range(1, AHEAD + 5):
        await gates.open(item)
    assert len(await running) == AHEAD + 5 and gates.peak == 1


async def _all(gates: Gates, items: range, at_once: int) -> list[Outcome]:
    return [outcome async for outcome in in_order(items, gates.work, at_once)]


async def test_leaving_early_ends_what_is_under_way() -> None:
    gates = Gates()
    outcomes = in_order(range(10), gates.work, 3)
    first = asyncio.ensure_future(anext(outcomes))
    await gates.open(0)
    assert (await first)["input"] == 0
    await outcomes.aclose()
    assert gates.busy == 0


async def test_items_and_failures_have_their_outcomes_in_a_list_and_in_a_file(tmp_path: Path) -> None:
    workflow = {
        "name": "team",
        "agents": [{"name": "general", "system_prompt": "The office opens at nine."}],
        "storage": {"state": str(tmp_path / "state")},
        "processing": {"max_length": 40},
    }
    items = ["When does it open?", {"message": "And close?", "user_id": "ada"}, "x" * 50, {"wrong": 1}]
    told: list[tuple[int, int]] = []
    async with Orchestrator(workflow, in_process=True) as team:
        file = tmp_path / "results.jsonl"
        found = await team.process_items_batch(
            items, batch_size=3, results_file=file, on_progress=lambda done, failed: told.append((done, failed))
        )
        assert await team.batch_process([]) == []
    assert [outcome["input"] for outcome in found] == items
    assert "nine" in found[0]["output"] and found[0]["metadata"]["agents"] == ["general"]
    assert [outcome.get("error", {}).get("slug") for outcome in found[2:]] == ["content-rejected", "invalid-request"]
    assert told == [(3, 1), (4, 2)]
    assert [json.loads(line)["input"] for line in file.read_text().splitlines()] == items
