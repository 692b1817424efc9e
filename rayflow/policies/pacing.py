"""How long a streaming replica rests between two reads of one answer.

Each read wakes the process, and each batch of tokens is a frame for the fabric: with many streams at once these
wake-ups are what the time goes into (0.1 to 0.2 ms of CPU each, in all processes). Nobody sees the difference between
five tokens now and five tokens 40 ms later, so with more streams the rest is longer; a replica with few of them does
not rest at all. All streams of a replica rest until the same moments: they are read together, and what they bring
leaves in one system call. Each replica has moments of its own, or all the machine's work would come at once. The first
token is never held back.
"""

from __future__ import annotations

STREAMS_PER_STEP = 4
MAX_STEPS = 4


def rest_s(streams: int, flush_s: float, now: float) -> float:
    """Seconds until the next read: none below 4 streams; else until the next multiple of `flush_s`, from 8 streams of
    twice that, and so on, at most of four times. `now`: seconds since the replica began."""
    period_s = flush_s * min(MAX_STEPS, streams // STREAMS_PER_STEP)
    return period_s - now % period_s if period_s else 0.0
