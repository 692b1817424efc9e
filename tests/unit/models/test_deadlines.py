"""The tightest limit ends a phase, and the error says which it was."""

from __future__ import annotations

import asyncio

import pytest

from rayflow.config.schema import Timeouts
from rayflow.models.deadlines import Deadlines, Late, Phase

TIGHT = 0.01


async def never() -> None:
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    ("limits", "deadline_s", "phase", "blamed"),
    [
        (Timeouts(first_token_s=TIGHT), None, "first_token", "first_token"),
        (Timeouts(between_tokens_s=TIGHT), None, "between_tokens", "between_tokens"),
        (Timeouts(total_s=TIGHT), None, "between_tokens", "total"),
        (Timeouts(), TIGHT, "first_token", "total"),
        (Timeouts(total_s=TIGHT), 60.0, "total", "total"),
        (Timeouts(), -1.0, "total", "total"),
    ],
)
async def test_the_tightest_limit_is_blamed(
    limits: Timeouts, deadline_s: float | None, phase: Phase, blamed: Phase
) -> None:
    with pytest.raises(Late) as raised:
        await Deadlines(limits, deadline_s).within(phase, never())
    assert raised.value.phase == blamed


async def test_a_caller_may_wait_for_less() -> None:
    with pytest.raises(Late):
        await Deadlines(Timeouts(), None).within("total", never(), at_most_s=TIGHT)


async def test_work_in_time_gives_its_result() -> None:
    assert await Deadlines(Timeouts(), None).within("total", asyncio.sleep(0, "done")) == "done"


async def test_a_timeout_of_the_work_itself_is_not_ours() -> None:
    async def fails() -> None:
        raise TimeoutError("socket")

    with pytest.raises(TimeoutError, match="socket"):
        await Deadlines(Timeouts(), None).within("total", fails())
