"""Guilt is proved, not guessed: whoever kills is found within three deaths, and nobody else is blamed."""

from __future__ import annotations

import random
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.policies.quarantine import Exposure, Quarantine, Sentence, Verdict, judge


@pytest.mark.parametrize(
    ("deaths", "suspects", "isolated", "since_s", "verdict"),
    [
        (1, 0, False, inf, "retry"),
        (1, 5, False, inf, "retry"),
        (2, 1, False, 5.0, "quarantine"),
        (2, 1, False, 0.9, "isolate"),
        (2, 3, False, 5.0, "isolate"),
        (2, 2, True, 5.0, "quarantine"),
        (3, 1, True, 5.0, "quarantine"),
        (3, 4, False, 0.1, "quarantine"),
    ],
)
def test_the_table_of_verdicts(deaths: int, suspects: int, isolated: bool, since_s: float, verdict: Verdict) -> None:
    assert judge(deaths, suspects, isolated, since_s) == verdict


class Deaths(Quarantine):
    """Each death ten seconds after the one before."""

    def __init__(self, remembered: int = 100) -> None:
        super().__init__(remembered)
        self._now = 0.0

    def die(self, exposure: Exposure) -> Verdict:
        self._now += 10
        return self.died(exposure, self._now)


def test_a_machine_that_goes_down_with_several_replicas_blames_nobody() -> None:
    quarantine = Quarantine()
    assert quarantine.died(quarantine.enter("x", "a", "r0"), 7.0) == "retry"
    assert quarantine.died(quarantine.enter("x", "a", "r1"), 7.1) == "isolate"
    quarantine.cleared(quarantine.enter("x", "a", "r2", isolated=True))
    assert quarantine.guilty("x") is None


def test_the_only_suspect_at_a_second_death_is_guilty() -> None:
    quarantine = Deaths()
    assert quarantine.die(quarantine.enter("poison", "a", "r0")) == "retry"
    bystander = quarantine.enter("new", "a", "r1")
    assert quarantine.die(quarantine.enter("poison", "a", "r1")) == "quarantine"
    assert quarantine.die(bystander) == "retry"
    assert quarantine.guilty("poison") == Sentence("a", ("r0", "r1"))
    assert quarantine.guilty("new") is None


def test_each_that_died_together_learns_of_all_the_others_whoever_comes_first() -> None:
    quarantine = Deaths()
    for run in ("x", "y"):
        quarantine.die(quarantine.enter(run, "a", "r0"))
    first, second = (quarantine.enter(run, "a", "r1") for run in ("x", "y"))
    assert (quarantine.die(first), quarantine.die(second)) == ("isolate", "isolate")


def test_a_call_at_the_successor_has_nothing_to_do_with_the_death_before() -> None:
    quarantine = Deaths()
    for run in ("x", "y"):
        quarantine.die(quarantine.enter(run, "a", "r0"))
    old = quarantine.enter("x", "a", "r0")
    quarantine.die(old)
    assert quarantine.die(quarantine.enter("y", "a", "r0")) == "quarantine", "it was the only suspect there"


def test_who_left_before_the_death_is_no_suspect() -> None:
    quarantine = Deaths()
    for run in ("x", "y"):
        quarantine.die(quarantine.enter(run, "a", "r0"))
    quarantine.left(quarantine.enter("y", "a", "r1"))
    assert quarantine.die(quarantine.enter("x", "a", "r1")) == "quarantine"


def test_an_answer_clears_of_suspicion() -> None:
    quarantine = Deaths()
    quarantine.die(quarantine.enter("x", "a", "r0"))
    quarantine.cleared(quarantine.enter("x", "a", "r1"))
    assert quarantine.die(quarantine.enter("x", "a", "r1")) == "retry"


def test_the_oldest_is_forgotten_first() -> None:
    quarantine = Deaths(remembered=2)
    for run in ("x", "y", "z"):
        quarantine.die(quarantine.enter(run, "a", "r0"))
        quarantine.die(quarantine.enter(run, "a", "r0"))
    assert [quarantine.guilty(run) is not None for run in ("x", "y", "z")] == [False, True, True]
    quarantine.validate()


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 12))
def test_one_poison_among_any_crowd_is_found_and_alone_is_blamed(seed: int, replicas: int, innocents: int) -> None:
    """Everybody is put somewhere at random and the poison's replica dies, again and again; those who must be alone take
    turns."""
    rng = random.Random(seed)
    quarantine = Deaths()
    crowd = ["poison", *(f"run_{i}" for i in range(innocents))]
    isolated: list[str] = []
    deaths = 0
    while crowd or isolated:
        at = {run: f"r{rng.randrange(replicas)}" for run in crowd}
        entered = {run: quarantine.enter(run, "a", replica) for run, replica in at.items()}
        alone = isolated.pop(rng.randrange(len(isolated))) if isolated else None
        if alone is not None:
            at[alone] = f"r{rng.randrange(replicas)}"
            entered[alone] = quarantine.enter(alone, "a", at[alone], isolated=True)
        crowd = []
        deaths += "poison" in at
        for run in sorted(entered, key=lambda _: rng.random()):
            if at[run] != at.get("poison"):
                quarantine.cleared(entered[run])
                continue
            match quarantine.die(entered[run]):
                case "retry":
                    crowd.append(run)
                case "isolate":
                    isolated.append(run)
                case "quarantine":
                    assert run == "poison"
        if rng.random() < 0.5 and deaths < 3:
            crowd.append(f"late_{deaths}_{len(crowd)}_{rng.random()}")
        quarantine.validate()
    assert quarantine.guilty("poison") is not None
    assert deaths <= 3
