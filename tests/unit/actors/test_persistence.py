"""Asking again: without a second thought what was never sent, and what was sent only where a repetition is
recognised."""

from __future__ import annotations

import pytest

from rayflow.actors import persistence
from rayflow.actors.persistence import died, persist, relayed, untouched
from rayflow.clock import SYSTEM_CLOCK
from rayflow.errors import Conflict, Fenced, PeerLost, Unavailable, UnknownAddress, WorkflowError


class Asked:
    """Fails with these errors, one after the other, then answers."""

    def __init__(self, *errors: WorkflowError) -> None:
        self.errors = list(errors)
        self.times = 0

    async def __call__(self) -> str:
        self.times += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


@pytest.fixture(autouse=True)
def hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistence, "PAUSE_S", 0.0)


NOBODY_BEGAN = [
    UnknownAddress("nobody"),
    PeerLost("refused", sent=False),
    Unavailable("stopping", draining="router/0"),
    Fenced("another owner"),
]


@pytest.mark.parametrize("error", NOBODY_BEGAN)
async def test_what_nobody_began_to_work_on_is_asked_again(error: WorkflowError) -> None:
    asked = Asked(error, error)
    assert await persist(asked, SYSTEM_CLOCK) == "answer"
    assert asked.times == 3


async def test_what_may_have_been_worked_on_is_not() -> None:
    asked = Asked(PeerLost("died", sent=True))
    with pytest.raises(PeerLost):
        await persist(asked, SYSTEM_CLOCK)
    assert asked.times == 1


async def test_unless_a_repetition_is_recognised() -> None:
    assert await persist(Asked(PeerLost("died", sent=True)), SYSTEM_CLOCK, repeatable=True) == "answer"


async def test_an_answer_that_is_an_error_is_an_answer() -> None:
    asked = Asked(Conflict("no"))
    with pytest.raises(Conflict):
        await persist(asked, SYSTEM_CLOCK, repeatable=True)
    assert asked.times == 1


async def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistence, "PATIENCE_S", 0.0)
    with pytest.raises(UnknownAddress):
        await persist(Asked(UnknownAddress("nobody")), SYSTEM_CLOCK)


@pytest.mark.parametrize("error", [*NOBODY_BEGAN, PeerLost("died", sent=True)])
async def test_what_an_actor_hands_on_is_its_answer(error: WorkflowError) -> None:
    told = relayed(error, "router/0")
    assert (type(told), told.message, told.details["via"]) == (type(error), error.message, "router/0")
    assert not untouched(told)
    assert not died(told)
    asked = Asked(told)
    with pytest.raises(type(error)):
        await persist(asked, SYSTEM_CLOCK, repeatable=True)
    assert asked.times == 1


def test_an_error_that_is_about_nobodys_absence_is_handed_on_as_it_is() -> None:
    for error in (Conflict("no"), Unavailable("no replica", agent="a")):
        assert relayed(error, "router/0") is error
