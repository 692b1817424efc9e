"""Which message kills the processes that work on it, and which only happened to be there.

A replica works on many runs at once, and when it dies all of them have seen a death: they are *suspects*. The first
time all are tried again, side by side. Whoever is the only suspect at a second death is guilty: its message is
quarantined and never tried again. Several suspects at a second death cannot be told apart, so each is tried once more,
one at a time: the innocent ones succeed, and the one that crashes in isolation is guilty. Nor does a second death prove
anything that follows the first within a second: a machine that goes down takes several replicas with it. So a message
ends at most three processes, and everybody else gets an answer.

One router judges by what it has sent itself. Of the deaths of one replica each call learns on its own, one after the
other, so those who were there together share one *crowd* that outlives the replica.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import inf
from typing import Literal, NamedTuple, TypeVar

K = TypeVar("K")
V = TypeVar("V")

Verdict = Literal["retry", "isolate", "quarantine"]

MAX_DEATHS = 3
ONE_INCIDENT_S = 1.0
"""Deaths so close to each other may have one cause, and none that is in a message."""
REMEMBERED = 1024
UNSUSPECTED: tuple[tuple[str, ...], float] = ((), -inf)


def judge(deaths: int, suspects: int, isolated: bool, since_s: float) -> Verdict:
    """What to do with a call whose replica died.

    `deaths`: how many it has seen, this one included. `suspects`: calls that died here and had seen one before, this
    one included where it had. `isolated`: it was the only suspect at work. `since_s`: from the death before to this.
    """
    if deaths == 1:
        return "retry"
    if isolated or deaths >= MAX_DEATHS or (suspects == 1 and since_s >= ONE_INCIDENT_S):
        return "quarantine"
    return "isolate"


@dataclass(slots=True, eq=False)
class Exposure:
    """One call while it is at a replica, among those that die with it if it dies. `before`: replicas that died under
    earlier calls of this message, the last one at `died_at`."""

    run_id: str
    agent: str
    replica: str
    isolated: bool
    before: tuple[str, ...]
    died_at: float
    crowd: set[Exposure]

    @property
    def deaths(self) -> tuple[str, ...]:
        """The replicas that died under this message, this one included."""
        return (*self.before, self.replica)


class Sentence(NamedTuple):
    """Why a run is in quarantine: the replicas that died under this agent's part of it."""

    agent: str
    replicas: tuple[str, ...]


class Quarantine:
    """What one router knows of deaths. Bounded: the oldest suspects and sentences are forgotten. `now` is monotonic
    seconds."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._crowds: dict[str, set[Exposure]] = {}
        self._suspects: OrderedDict[tuple[str, str], tuple[tuple[str, ...], float]] = OrderedDict()
        self._guilty: OrderedDict[str, Sentence] = OrderedDict()

    def enter(self, run_id: str, agent: str, replica: str, isolated: bool = False) -> Exposure:
        """A call is sent to `replica`. `left` or `died` must follow exactly once."""
        crowd = self._crowds.get(replica)
        if crowd is None:
            crowd = self._crowds[replica] = set()
        before, died_at = self._suspects.get((run_id, agent), UNSUSPECTED)
        exposure = Exposure(run_id, agent, replica, isolated, before, died_at, crowd)
        crowd.add(exposure)
        return exposure

    def left(self, exposure: Exposure) -> None:
        """The call ended, and not by a death."""
        exposure.crowd.discard(exposure)

    def cleared(self, exposure: Exposure) -> None:
        """The call was answered: whatever it saw die, it was not the cause."""
        exposure.crowd.discard(exposure)
        if exposure.before:
            self._suspects.pop((exposure.run_id, exposure.agent), None)

    def died(self, exposure: Exposure, now: float) -> Verdict:
        """The replica died with this call in it."""
        if self._crowds.get(exposure.replica) is exposure.crowd:
            del self._crowds[exposure.replica]  # who comes now meets its successor
        suspects = sum(1 for other in exposure.crowd if other.before)
        verdict = judge(len(exposure.deaths), suspects, exposure.isolated, now - exposure.died_at)
        if verdict == "quarantine":
            self._suspects.pop((exposure.run_id, exposure.agent), None)
            _remember(self._guilty, exposure.run_id, Sentence(exposure.agent, exposure.deaths), self._remembered)
        else:
            _remember(self._suspects, (exposure.run_id, exposure.agent), (exposure.deaths, now), self._remembered)
        return verdict

    def guilty(self, run_id: str) -> Sentence | None:
        """Why a run is in quarantine; None where it is not, or no longer known."""
        return self._guilty.get(run_id)

    def validate(self) -> None:
        """Invariants, for tests."""
        assert all(one.crowd is crowd for crowd in self._crowds.values() for one in crowd)
        assert len(self._suspects) <= self._remembered
        assert len(self._guilty) <= self._remembered


def _remember(known: OrderedDict[K, V], key: K, value: V, limit: int) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > limit:
        known.popitem(last=False)
