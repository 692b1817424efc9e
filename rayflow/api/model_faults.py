"""How the standalone model endpoint behaves and misbehaves.

Every request has a number, and its fault is drawn from the seed and that number alone, so a rehearsal that sends the
same requests in the same order meets the same faults, however they interleave.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from rayflow.errors import ConfigurationError


class Fault(Enum):
    NONE = auto()
    ERROR = auto()
    """HTTP 500."""
    RATE_LIMIT = auto()
    """HTTP 429 with Retry-After."""
    STALL = auto()
    """The answer starts and then stays silent until the client goes away."""
    CUT = auto()
    """The connection closes in the middle of the answer, without `[DONE]`."""


class Draw(NamedTuple):
    """The fault of one request, and after which share of the answer (0 to 1) a stall or cut comes."""

    fault: Fault
    at: float


@dataclass(frozen=True)
class Behaviour:
    """Settings of the endpoint. Raises `ConfigurationError` for values that make no sense.

    `ttft_ms`: milliseconds until the first token. `tokens_per_s`: pace of the others, 0 for all at once.
    `output_tokens`: length of every answer, padded or cut; None leaves it as it comes. Rates are shares of requests
    (0 to 1); a request has at most one fault.
    """

    ttft_ms: float = 0.0
    tokens_per_s: float = 0.0
    output_tokens: int | None = None
    error_rate: float = 0.0
    rate_limit_rate: float = 0.0
    stall_rate: float = 0.0
    cut_rate: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("ttft_ms", "tokens_per_s", "error_rate", "rate_limit_rate", "stall_rate", "cut_rate"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigurationError(f"{name}: expected a number from 0 on, got {getattr(self, name)}")
        if self.output_tokens is not None and self.output_tokens < 1:
            raise ConfigurationError(f"output_tokens: expected at least 1, got {self.output_tokens}")
        if (total := sum(rate for _, rate in self._rates())) > 1:
            raise ConfigurationError(
                f"the fault rates add up to {total:g}; a request has at most one fault, so at most 1"
            )

    def draw(self, number: int) -> Draw:
        """What happens to request `number`."""
        rng = random.Random(f"{self.seed}:{number}")
        chance, at = rng.random(), rng.random()
        for fault, rate in self._rates():
            chance -= rate
            if chance < 0:
                return Draw(fault, at)
        return Draw(Fault.NONE, at)

    def _rates(self) -> list[tuple[Fault, float]]:
        return [
            (Fault.ERROR, self.error_rate),
            (Fault.RATE_LIMIT, self.rate_limit_rate),
            (Fault.STALL, self.stall_rate),
            (Fault.CUT, self.cut_rate),
        ]
