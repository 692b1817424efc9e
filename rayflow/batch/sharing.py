"""What a job may use, shared among its feeders: rows in flight, rates, and money.

A feeder is told a few times a second what its part is, one after the other, and goes on for a moment with what it was
told last. So nobody is given what another one may still be using: all of them together never have more than the job.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rayflow.batch.spec import Limits
from rayflow.batch.status import Totals
from rayflow.messages import Advanced, Lease, Share


@dataclass(eq=False, slots=True)
class Hand:
    """One feeder, as the owner of the job sees it. `heard`: when it last answered. `granted`: rows it may have in
    flight. `allowed`: US dollars that it may have spent; `had_all`: that this was all there is."""

    address: str
    heard: float
    work: str = ""
    leases: dict[str, Lease] = field(default_factory=dict)
    held: dict[str, Totals] = field(default_factory=dict)
    """What was done under leases that it still has."""
    said: Advanced | None = None
    granted: int = 0
    allowed: float = 0.0
    had_all: bool = False

    def forget(self) -> None:
        """Whoever answers next begins anew."""
        self.work, self.said, self.granted, self.allowed, self.had_all = "", None, 0, 0.0, False

    @property
    def spent(self) -> float:
        return self.said.spent_usd if self.said is not None else 0.0

    @property
    def in_flight(self) -> int:
        return self.said.in_flight if self.said is not None else 0

    @property
    def starved(self) -> bool:
        """It has rows to run, and no money for one of them."""
        return self.said is not None and self.said.starved and bool(self.leases)

    @property
    def to_spend(self) -> float:
        return max(0.0, self.allowed - self.spent)


def share(hand: Hand, hands: Sequence[Hand], limits: Limits, totals: Totals) -> Share:
    """The part of one of `hands`, which it is told now: an equal one of those that have leases. `totals`: of the job so
    far."""
    active, others = [each for each in hands if each.leases], [each for each in hands if each is not hand]
    if not hand.leases:
        hand.granted, hand.allowed = 0, hand.spent
        return Share(0, cost_usd=None if limits.cost_usd is None else hand.allowed)
    in_use = sum(max(other.granted, other.in_flight) for other in others)
    fair = equal_part(limits.concurrency, len(active), active.index(hand))
    hand.granted = max(0, min(fair, limits.concurrency - in_use))
    if limits.cost_usd is not None:
        _allow(hand, active, limits.cost_usd - totals.cost_usd - sum(other.to_spend for other in others))
    return Share(
        hand.granted,
        rows_per_s=limits.rows_per_s and limits.rows_per_s / len(active),
        tokens_per_min=limits.tokens_per_min and limits.tokens_per_min / len(active),
        cost_usd=None if limits.cost_usd is None else hand.allowed,
        row_usd=None if limits.cost_usd is None or not totals.cost_usd else totals.cost_usd / totals.rows,
    )


def equal_part(whole: int, shares: int, place: int) -> int:
    """What the one at `place` has of `whole`."""
    return whole // shares + (place < whole % shares)


def out_of_money(hand: Hand, hands: Sequence[Hand]) -> bool:
    """Whether nobody can begin a row, though `hand`, which has just answered, was given all that is left."""
    return hand.had_all and hand.starved and all(each.starved for each in hands if each.leases)


def _allow(hand: Hand, active: Sequence[Hand], left: float) -> None:
    """`left`: what no other one may spend. Where equal parts are too little for a row, one of those who say so gets all
    that is left, and the others of them nothing."""
    first = next((each for each in active if each.starved), None)
    hand.had_all = False
    if not hand.starved:
        hand.allowed += max(0.0, left - hand.to_spend) / len(active)
    elif hand is first:
        hand.had_all = not any(each.to_spend for each in active if each is not hand)
        hand.allowed = hand.spent + max(0.0, left)
    else:
        hand.allowed = hand.spent
