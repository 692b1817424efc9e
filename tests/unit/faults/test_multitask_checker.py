"""The checker of the multitask trials sees each way in which a history may be wrong."""

from __future__ import annotations

import pytest
from faults.answers import pieces
from faults.multitask import Said, check
from faults.trial import Told

ASKED = [f"turn {n} of s for alpha by c1" for n in (1, 2)]
ANSWERS = ["".join(pieces("alpha", 1, question)) for question in ASKED]


def acknowledged(n: int) -> Said:
    return Said("s", ASKED[n], "acknowledged", ANSWERS[n], run_id=f"r{n}")


def cut(n: int, text: str = "") -> Said:
    return Said("s", ASKED[n], "cancelled", text, run_id=f"r{n}")


def question(n: int) -> Told:
    return Told("user", ASKED[n], False, f"r{n}", None)


def answer(n: int, text: str = "", run: int | None = None) -> Told:
    return Told("assistant", text or ANSWERS[n], bool(text), f"r{n if run is None else run}", None)


def test_one_after_the_other_is_right() -> None:
    history = [question(0), answer(0), question(1), answer(1)]
    assert check([acknowledged(0), acknowledged(1)], {"s": history}, "enqueue") == []


def test_what_was_shown_of_a_cut_answer_is_right_and_nothing_else_is() -> None:
    shown = ANSWERS[0][:12]
    assert check([cut(0, shown)], {"s": [question(0), answer(0, shown)]}, "interrupt") == []
    assert check([cut(0)], {"s": []}, "interrupt") == []
    assert check([cut(0, shown)], {"s": [question(0), answer(0, shown + "x")]}, "interrupt")
    assert check([cut(0, shown)], {"s": [question(0)]}, "interrupt")
    assert check([cut(0, shown)], {"s": [question(0), answer(0)]}, "interrupt")


def test_a_rolled_back_message_and_a_refused_one_leave_nothing() -> None:
    assert check([cut(0, "ab")], {"s": []}, "rollback") == []
    assert check([cut(0, "ab")], {"s": [question(0)]}, "rollback")
    refused = Said("s", ASKED[0], "refused")
    assert check([refused], {"s": []}, "reject") == []
    assert check([refused], {"s": [question(0)]}, "reject")


@pytest.mark.parametrize(
    "history",
    [
        [question(0), question(1), answer(0), answer(1)],
        [question(0), answer(0), question(1)],
        [question(0), answer(0), question(1), answer(1), question(1), answer(1)],
        [question(0), answer(0), question(1), answer(1, run=0)],
        [question(0), answer(0), question(1), answer(1), answer(1)],
        [question(0), answer(0), question(1), answer(1, "half")],
        [question(0), answer(0), question(1), answer(1), Told("user", "turn 1 of t for alpha", False, "x", None)],
        [],
    ],
    ids=["interleaved", "lost", "twice", "of another run", "two answers", "half of it", "foreign", "empty"],
)
def test_anything_else_is_wrong(history: list[Told]) -> None:
    assert check([acknowledged(0), acknowledged(1)], {"s": history}, "enqueue")


def test_a_message_that_failed_or_was_answered_wrongly_is_told() -> None:
    assert check([Said("s", ASKED[0])], {"s": []}, "enqueue")
    wrong = Said("s", ASKED[0], "acknowledged", ANSWERS[1], run_id="r0")
    assert check([wrong], {"s": [question(0), answer(1, run=0)]}, "enqueue")
