"""How long a streaming replica rests between two reads of one answer.

Each read wakes the process, and each batch of tokens is a frame for the fabric: with many streams at once these
wake-ups are what the time goes into. Nobody sees the difference between five tokens now and five tokens 20 ms later
when a hundred streams share a core, so the rest grows with the streams; a replica with few of them does not rest at
all. The first token is never held back.
"""

from __future__ import annotations

STREAMS_PER_STEP = 16
MAX_STEPS = 2


def rest_s(streams: int, flush_s: float) -> float:
    """Seconds to wait before the next read: none below 16 streams, then one `flush_s` more for every 16, at most
    four."""
    return flush_s * min(MAX_STEPS, streams // STREAMS_PER_STEP)
