"""Server-sent events, cut out of a byte stream as they arrive.

Works on bytes, so a character or a line break split between two reads needs no care: `data` is only joined and handed
on when its event is complete. Follows the WHATWG rules for lines (LF, CR, CRLF), comments and multi-line data;
`event`, `id` and `retry` fields are ignored, as chat completions do not use them. Sizes are bounded, because the
other end is not ours.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

MAX_EVENT_BYTES = 1 << 20
MAX_STREAM_BYTES = 64 << 20

_BOM = b"\xef\xbb\xbf"


class StreamTooLarge(ValueError):
    """One event or the whole stream is larger than allowed."""


class SSEDecoder:
    """Feed it reads of any size; it returns the data of the events that they complete."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES, max_stream_bytes: int = MAX_STREAM_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._max_stream_bytes = max_stream_bytes
        self._rest = b""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._stream_bytes = 0
        self._after_cr = False

    def feed(self, read: bytes) -> list[bytes]:
        """Data of the events completed by `read`, in order. Raises `StreamTooLarge`."""
        if not read:
            return []
        if self._stream_bytes == 0:
            read = read.removeprefix(_BOM)
        self._stream_bytes += len(read)
        if self._stream_bytes > self._max_stream_bytes:
            raise StreamTooLarge(f"the stream is larger than {self._max_stream_bytes} bytes")
        if self._after_cr:
            read = read.removeprefix(b"\n")  # second half of a CRLF whose first half ended the last read
            self._after_cr = False
        if b"\r" in read:
            self._after_cr = read.endswith(b"\r")
            read = read.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._rest = (self._rest + read).split(b"\n")
        events: list[bytes] = []
        for line in lines:
            if line:
                self._line(line)
            elif self._data:
                events.append(self._event())
        if len(self._rest) + self._data_bytes > self._max_event_bytes:
            raise StreamTooLarge(f"one event is larger than {self._max_event_bytes} bytes")
        return events

    def _line(self, line: bytes) -> None:
        if line.startswith(b"data"):
            field, _, value = line.partition(b":")
            if field == b"data":
                self._data.append(value.removeprefix(b" "))
                self._data_bytes += len(value)

    def _event(self) -> bytes:
        event = b"\n".join(self._data)
        self._data, self._data_bytes = [], 0
        if len(event) > self._max_event_bytes:
            raise StreamTooLarge(f"one event is larger than {self._max_event_bytes} bytes")
        return event
