"""What a simulated run comes to: figures that can be compared, and how they were over time.

Response times are those of answered requests, and of those that nobody waited for any more: they would have taken
longer still, and leaving them out would flatter whoever is slowest. Who was refused or failed is counted only. All of
them have missed the objective. Quantiles are by nearest rank: values that occurred.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from rayflow.simulation.request import Request
from rayflow.simulation.scenario import Scenario

QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999))
End = Literal["answered", "failed", "refused", "late"]


@dataclass(frozen=True, slots=True)
class Sample:
    """The pool at a moment, and what happened since the sample before."""

    at_s: float
    replicas: int
    processes: int
    in_flight: int
    waiting: int
    arrived: int
    p50_s: float | None
    p99_s: float | None


@dataclass(frozen=True, slots=True)
class Order:
    """A decision of the scaler that changed something."""

    at_s: float
    before: int
    after: int
    reason: str


@dataclass(frozen=True, slots=True)
class Diversion:
    """How the pool dealt with a fault of some replicas. `divert_s`: from its begin until they get at most half of
    their even share of the calls; `return_s`: from its end until they get at least half of it again; None: never."""

    from_s: float
    replicas: int
    calls: int
    share: float
    divert_s: float | None
    return_s: float | None


@dataclass(frozen=True, slots=True)
class Result:
    """`figures`: by name, None where there is nothing to measure; times in seconds. `tenants`: each one's share of the
    tokens served. `curve`: 200 quantiles of the response time."""

    scenario: str
    seed: int
    figures: Mapping[str, float | None]
    tenants: Mapping[str, float] = field(default_factory=dict)
    classes: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    diversions: Sequence[Diversion] = ()
    orders: Sequence[Order] = ()
    samples: Sequence[Sample] = ()
    curve: Sequence[float] = ()


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """By nearest rank, of values in order; None of none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def jain(shares: Sequence[float]) -> float | None:
    """Jain's index of fairness: 1 where all shares are equal, 1/n where one has all. None of no shares, or of zeros."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else None


class Measures:
    """Takes note of how requests end. What came before `warm_up_s` does not count."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._response_s = array("d")
        self._first_s = array("d")
        self._waited_s = array("d")
        self._kinds = array("i")
        self._recent = array("d")
        self.ends: dict[End, int] = {"answered": 0, "failed": 0, "refused": 0, "late": 0}
        self.missed = 0
        self._class_ends: dict[str, dict[str, int]] = {}
        self._tokens: dict[str, float] = {}

    def ended(self, call: Request, end: End, now: float, *, in_time: bool) -> None:
        """`in_time`: while requests still came; only that counts for shares."""
        if call.arrived < self._scenario.warm_up_s:
            return
        self.ends[end] += 1
        kind = self._scenario.traffic[call.kind]
        ends = self._class_ends.setdefault(kind.service_class, {"requests": 0, "answered": 0})
        ends["requests"] += 1
        response_s, first_s = now - call.arrived, min(call.first_at, now) - call.arrived
        if end in ("answered", "late"):
            self._response_s.append(response_s)
            self._first_s.append(first_s)
            self._waited_s.append(min(call.started, now) - call.arrived)
            self._kinds.append(call.kind)
            self._recent.append(response_s)
        if end != "answered":
            self.missed += 1
            return
        ends["answered"] += 1
        objective = self._scenario.objective
        if (objective.response_s is not None and response_s > objective.response_s) or (
            objective.first_token_s is not None and first_s > objective.first_token_s
        ):
            self.missed += 1
        if in_time and call.tenant:
            self._tokens[call.tenant] = self._tokens.get(call.tenant, 0.0) + call.tokens

    def recent(self) -> tuple[float | None, float | None]:
        """Median and 99th percentile of the responses since the last time this was asked."""
        ordered = sorted(self._recent)
        self._recent = array("d")
        return quantile(ordered, 0.5), quantile(ordered, 0.99)

    def figures(self) -> dict[str, float | None]:
        """Of requests; the other figures are the pool's."""
        total = sum(self.ends.values())
        response = sorted(self._response_s)
        first, waited = sorted(self._first_s), sorted(self._waited_s)
        figures: dict[str, float | None] = {"requests": total}
        figures.update((end, count) for end, count in self.ends.items())
        figures["missed"] = self.missed
        figures["missed_share"] = self.missed / total if total else None
        figures["mean_s"] = math.fsum(response) / len(response) if response else None
        figures |= {f"{name}_s": quantile(response, share) for name, share in QUANTILES}
        figures |= {f"first_token_{name}_s": quantile(first, share) for name, share in QUANTILES}
        figures["waited_mean_s"] = math.fsum(waited) / len(waited) if waited else None
        figures["waited_p99_s"] = quantile(waited, 0.99)
        return figures

    def classes(self) -> dict[str, dict[str, float | None]]:
        """Each service class: how many requests, the share of them that was answered, and the 99th percentile."""
        kinds = self._scenario.traffic
        found: dict[str, dict[str, float | None]] = {}
        for name, ends in sorted(self._class_ends.items()):
            numbers = {n for n, kind in enumerate(kinds) if kind.service_class == name}
            ordered = sorted(s for s, kind in zip(self._response_s, self._kinds, strict=True) if kind in numbers)
            found[name] = {
                "requests": ends["requests"],
                "answered_share": ends["answered"] / ends["requests"],
                "p99_s": quantile(ordered, 0.99),
            }
        return found

    def tenants(self) -> dict[str, float]:
        total = sum(self._tokens.values())
        return {tenant: tokens / total for tenant, tokens in sorted(self._tokens.items())}

    def fairness(self, weights: Mapping[str, float]) -> float | None:
        """Jain's index over what each tenant was served for its weight; None for fewer than two tenants."""
        served = [tokens / weights.get(tenant, 1.0) for tenant, tokens in self._tokens.items()]
        return jain(served) if len(served) > 1 else None

    def curve(self, points: int = 200) -> list[float]:
        ordered = sorted(self._response_s)
        return (
            [ordered[min(len(ordered) - 1, n * len(ordered) // points)] for n in range(points + 1)] if ordered else []
        )


def reversals(orders: Iterable[Order]) -> int:
    """How often a pool that had grown shrank, or the other way round."""
    directions = [order.after > order.before for order in orders]
    return sum(one != other for one, other in pairwise(directions))


class Shares:
    """Who got the calls, for faults: the moments of all calls, and of those to the replicas concerned."""

    STEP_S = 0.1
    CALLS = 5
    """Calls of an even share that make a window."""

    def __init__(self, replicas: frozenset[int]) -> None:
        self._concerned = replicas
        self._all = array("d")
        self._theirs = array("d")

    def sent(self, replica: int, now: float) -> None:
        self._all.append(now)
        if replica in self._concerned:
            self._theirs.append(now)

    def diversion(self, from_s: float, to_s: float | None, size: int, until: float) -> Diversion:
        """`size`: replicas in rotation. `until`: end of the load."""
        end = until if to_s is None else min(to_s, until)
        even = min(1.0, len(self._concerned) / size) if size else 1.0
        theirs, everything = self._between(self._theirs, from_s, end), self._between(self._all, from_s, end)
        rate = everything / max(end - from_s, 1e-9)
        window_s = max(1.0, self.CALLS / max(rate * even, 1e-9))
        return Diversion(
            from_s=from_s,
            replicas=len(self._concerned),
            calls=theirs,
            share=theirs / everything if everything else 0.0,
            divert_s=self._first(from_s, end, window_s, even, more=False),
            return_s=None if to_s is None else self._first(to_s, until, window_s, even, more=True),
        )

    def _first(self, begin: float, end: float, window_s: float, even: float, *, more: bool) -> float | None:
        """When, after `begin`, their share in the window that follows first is at least (or at most) half an even
        one."""
        steps = int(max(0.0, end - begin - window_s) / self.STEP_S)
        for n in range(steps + 1):
            at = begin + n * self.STEP_S
            theirs, everything = (
                self._between(self._theirs, at, at + window_s),
                self._between(self._all, at, at + window_s),
            )
            half = everything * even / 2
            if everything and (theirs >= half if more else theirs <= half):
                return n * self.STEP_S
        return None

    @staticmethod
    def _between(moments: array[float], begin: float, end: float) -> int:
        return bisect_right(moments, end) - bisect_left(moments, begin)
