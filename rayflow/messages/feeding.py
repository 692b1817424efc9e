"""Feeders of a batch job: who keeps them, and what the owner of the job and a feeder say to each other."""

from __future__ import annotations

from typing import Literal

import msgspec

from rayflow.errors import ErrorInfo
from rayflow.messages.base import Payload

Order = Literal["run", "stop", "drop"]
"""`stop`: begin no further row, and finish those in flight. `drop`: forget the job at once."""


class KeepFeeders(Payload, frozen=True, tag=True):
    """Ask the coordinator to keep so many feeders for a job. It is asked again every second, for as long as the job
    runs; feeders that nobody has asked for lately end. 0: the job needs none any more."""

    job_id: str
    number: int


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """A range of the input that one feeder may work on. `name`: of this lease and no other one, as of its journal."""

    range: int
    name: str


class Share(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one feeder may use. `cost_usd`: may have spent in all. `row_usd`: what rows of the job cost so far."""

    concurrency: int
    rows_per_s: float | None = None
    tokens_per_min: float | None = None
    cost_usd: float | None = None
    row_usd: float | None = None


class Advance(Payload, frozen=True, omit_defaults=True, tag=True):
    """From the owner of a job to a feeder, a few times a second: what it should work on now. Reply: `Advanced`.

    `start`: number of this start of the job. `folder`: of the job; `paths`: its input; `seen`: what the owner sees
    there. `work`: the feeder's own name of its work, as it gave it; "" begins anew, and what was there before is
    dropped. `leases`: all that the feeder holds.
    """

    job_id: str
    start: int
    folder: str
    paths: list[str]
    seen: str
    share: Share
    work: str = ""
    leases: list[Lease] = []
    order: Order = "run"
    retry_failed: bool = False


class Held(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a lease is. `totals`: of the rows finished under it, as JSON. `done`: nothing is left to run, and its
    journal is closed."""

    name: str
    totals: bytes
    done: bool = False


class Advanced(Payload, frozen=True, omit_defaults=True, tag=True):
    """`run`, `spent_usd`: since this work began. `wants`: another lease would be read at once. `starved`: its part of
    the cost is too small for one more row. `closed`: it begins nothing more, and nothing is in flight. `end`: last
    range of the input, and rows of the selection, once it was read to its end. `error`: why it cannot go on; `pauses`:
    no other feeder could."""

    work: str
    leases: list[Held] = []
    in_flight: int = 0
    window: int = 0
    run: int = 0
    spent_usd: float = 0.0
    blank_lines: int = 0
    wants: bool = False
    starved: bool = False
    closed: bool = False
    end: tuple[int, int] | None = None
    error: ErrorInfo | None = None
    pauses: bool = False
