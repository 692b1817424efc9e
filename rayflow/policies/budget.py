"""How many retries a fault may cause: a share of the traffic, and a few more.

Retries multiply the load just when something is broken. A budget bounds them whatever breaks: within the last ten
seconds, at most a fifth of the requests, and ten a second so that a quiet service can retry at all. Beyond it an error
is handed on at once.
Source: M. Eriksen, "Your server as a function", PLOS 2013; the retry budgets of Finagle and gRPC (proposal A6).
"""

from __future__ import annotations

SHARE = 0.2
FLOOR_PER_S = 10.0
WINDOW_S = 10


class Window:
    """A count of what happened in the last `seconds`, to the second."""

    __slots__ = ("_counts", "_second", "total")

    def __init__(self, seconds: int) -> None:
        self._counts = [0] * seconds
        self._second = 0
        self.total = 0
        """As of the last `turn`."""

    def add(self, now: float) -> None:
        self.turn(now)
        self._counts[self._second % len(self._counts)] += 1
        self.total += 1

    def turn(self, now: float) -> None:
        """Forget what is too old."""
        second = int(now)
        if second <= self._second:
            return
        size = len(self._counts)
        for passed in range(max(self._second + 1, second - size + 1), second + 1):
            self.total -= self._counts[passed % size]
            self._counts[passed % size] = 0
        self._second = second


class RetryBudget:
    """`share` of the requests of the last `window_s` seconds, and `floor_per_s`, may be retried. `now` is monotonic
    seconds."""

    __slots__ = ("_floor", "_requests", "_retries", "_share")

    def __init__(self, share: float = SHARE, floor_per_s: float = FLOOR_PER_S, window_s: int = WINDOW_S) -> None:
        self._share = share
        self._floor = floor_per_s * window_s
        self._requests = Window(window_s)
        self._retries = Window(window_s)

    def request(self, now: float) -> None:
        """A first attempt begins."""
        self._requests.add(now)

    def retry(self, now: float) -> bool:
        """Take a retry out of the budget. False where there is none left."""
        self._requests.turn(now)
        self._retries.turn(now)
        if self._retries.total + 1 > self._share * self._requests.total + self._floor:
            return False
        self._retries.add(now)
        return True
