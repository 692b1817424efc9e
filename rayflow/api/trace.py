"""W3C Trace Context: the trace that a request belongs to, as its client said (https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import re

from rayflow.api.headers import Headers

_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?P<more>-[!-~]*)?"
)


def traceparent(headers: Headers) -> str:
    """The header as it came, or "" where there is none that a receiver may use: a wrong one is ignored, as the standard
    asks. Only versions after 00 may have further parts."""
    raw = headers.get(b"traceparent")
    found = _TRACEPARENT.fullmatch(raw) if raw is not None else None
    if raw is None or found is None or (raw.startswith(b"00") and found["more"] is not None):
        return ""
    return raw.decode()
