"""Which ranges of the input are whose: each is given to one feeder at a time, and again where that one is lost.

A lease has a name that no other one of the job ever has, and so has its journal. Taking a lease back means to merge
that journal into the range's part and to delete it: a feeder that was only cut off may go on for a while, but what it
writes is in no file any more, and it cannot make a new one. So nobody needs to be certain that it is dead. Pure.
"""

from __future__ import annotations

from heapq import heappop, heappush

from rayflow.messages import Lease


class Leases:
    """`start`: number of this start of the job."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._count = 0
        self._next = 0
        self._returned: list[int] = []
        self._given: dict[str, Lease] = {}
        self._end: int | None = None

    def give(self) -> Lease | None:
        """A range that nobody works on, the lowest one; None where there is none now."""
        if self._returned:
            number = heappop(self._returned)
        elif self._end is None or self._next < self._end:
            number = self._next
            self._next += 1
        else:
            return None
        self._count += 1
        lease = Lease(number, f"{self._start}-{self._count}")
        self._given[lease.name] = lease
        return lease

    def finish(self, lease: Lease) -> None:
        """Nothing of the range is left to run."""
        self._given.pop(lease.name)

    def take_back(self, lease: Lease) -> None:
        """Somebody else shall go on with the range."""
        self._given.pop(lease.name)
        heappush(self._returned, lease.range)

    def ended(self, last: int) -> None:
        """The input has no range beyond `last`."""
        self._end = last + 1 if self._end is None else min(self._end, last + 1)

    @property
    def over(self) -> bool:
        """Whether the whole input was gone through."""
        return self._end is not None and self._next >= self._end and not self._given and not self._returned
