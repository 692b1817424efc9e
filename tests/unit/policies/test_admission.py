"""Who may wait, and what those are told who may not."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from rayflow.config.schema import AdmissionConfig
from rayflow.errors import ConfigurationError
from rayflow.policies.admission import Admitter, Prospect, Refusal, admitter


def made(strategy: str = "deadline", max_wait_s: float = 30.0, **options: object) -> Admitter:
    return admitter(AdmissionConfig(strategy=strategy, max_wait_s=max_wait_s, options=options))


def prospect(
    room: int = 10, wait_s: float | None = 1.0, service_s: float | None = 2.0, left_s: float = 60.0
) -> Prospect:
    return Prospect(room, 5, wait_s, service_s, left_s, 2.25, "", 1)


@pytest.mark.parametrize("strategy", ["bounded", "deadline"])
def test_a_full_line_refuses_and_says_when_it_will_be_worked_off(strategy: str) -> None:
    assert made(strategy).decide(prospect(room=0, wait_s=12.0)) == Refusal("full", 12.0)
    assert made(strategy).decide(prospect(room=1)) is None


def test_bounded_asks_for_nothing_else() -> None:
    assert made("bounded").decide(prospect(wait_s=1e6, left_s=0.1)) is None


def test_who_would_wait_too_long_comes_back_when_the_line_is_short_enough() -> None:
    assert made(max_wait_s=10.0).decide(prospect(wait_s=9.0)) is None
    assert made(max_wait_s=10.0).decide(prospect(wait_s=12.0)) == Refusal("too-long", 3.0)


def test_who_could_not_be_answered_by_its_deadline_is_refused() -> None:
    assert made().decide(prospect(wait_s=9.0, service_s=2.0, left_s=12.0)) is None
    assert made().decide(prospect(wait_s=9.5, service_s=2.0, left_s=12.0)) == Refusal("too-late", 0.5)


def test_while_nothing_is_known_only_a_full_line_refuses() -> None:
    assert made().decide(prospect(wait_s=None, service_s=None, left_s=0.001)) is None
    assert made().decide(prospect(room=0, wait_s=None)) == Refusal("full", 1.0)


def test_retry_after_is_neither_nothing_nor_for_ever() -> None:
    assert made().decide(prospect(room=0, wait_s=1e9)) == Refusal("full", 60.0)
    assert made().decide(prospect(wait_s=27.0001)) == Refusal("too-long", 0.1)


OWN = """
from rayflow.policies.admission import Refusal

class Picky:
    def __init__(self, tenant):
        self.tenant = tenant

    def decide(self, prospect):
        if prospect.tenant != self.tenant:
            return Refusal("too-long", 7.0)

def broken(prospect):
    return 1 / 0

def strange(prospect):
    return "no"
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    return str(file)


def test_an_own_policy_with_options_decides_while_there_is_room(own: str) -> None:
    picky = made(f"{own}:Picky", tenant="acme")
    assert picky.decide(prospect()) == Refusal("too-long", 7.0)
    assert picky.decide(prospect(room=0, wait_s=3.0)) == Refusal("full", 3.0)


@pytest.mark.parametrize("name", ["broken", "strange"])
def test_an_own_policy_that_fails_is_logged_and_bounded_decides(
    own: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert made(f"{own}:{name}").decide(prospect(wait_s=1e6)) is None
    assert f"{name} failed (time 1); bounded decides" in caplog.text


def test_an_own_policy_that_cannot_be_loaded_is_a_fault_of_the_configuration(own: str) -> None:
    with pytest.raises(ConfigurationError, match=r"admission\.strategy"):
        made(f"{own}:Missing")
