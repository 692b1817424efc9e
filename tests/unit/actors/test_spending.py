"""What a call had used that ended before its model said so."""

from __future__ import annotations

import asyncio

import pytest

from rayflow.actors.spending import cut_short, prompt_tokens
from rayflow.chat import Message, Usage
from rayflow.errors import ModelError, ModelRateLimited, ModelTimeout

TOLD = [Message("system", "x" * 10), Message("user", [{"type": "text", "text": "y" * 31}])]
GONE = asyncio.CancelledError()


def test_four_characters_are_a_token() -> None:
    assert prompt_tokens(TOLD) == 11
    assert prompt_tokens([]) == 0


def test_a_stream_that_was_cancelled_has_used_its_prompt_and_what_has_come() -> None:
    assert cut_short(TOLD, 7, Usage(), GONE) == Usage(11, 7, estimated=True)
    assert cut_short(TOLD, 0, Usage(), GONE) == Usage(11, 0, estimated=True)


def test_what_the_model_said_itself_is_believed() -> None:
    assert cut_short(TOLD, 7, Usage(12, 9), GONE) == Usage(12, 9)


@pytest.mark.parametrize("pieces", [None, 0])
def test_an_endpoint_that_failed_before_it_began_has_used_nothing(pieces: int | None) -> None:
    for error in (ModelError("down"), ModelRateLimited("slow down")):
        assert cut_short(TOLD, pieces, Usage(), error) == Usage(estimated=True)


def test_one_that_failed_half_way_has_used_half() -> None:
    assert cut_short(TOLD, 3, Usage(), ModelError("broke off")) == Usage(11, 3, estimated=True)


def test_of_an_answer_that_was_not_streamed_nobody_knows_how_far_it_was() -> None:
    assert cut_short(TOLD, None, Usage(), GONE) is None
    assert cut_short(TOLD, None, Usage(), ModelTimeout("silent")) is None
