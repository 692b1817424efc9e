"""What a batch of events on its way to the log says."""

from __future__ import annotations

import msgspec

from rayflow.events import Event
from rayflow.messages import EventBatch

_DECODER = msgspec.json.Decoder(Event)


def events_of(batch: EventBatch) -> list[Event]:
    return _DECODER.decode_lines(batch.lines)
