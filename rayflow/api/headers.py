"""Request headers as one dict, after the rules that keep two readers from seeing two requests.

The HTTP parser in front refuses malformed headers; it accepts no Host or two, thousands of headers and 200 KB of them.
Source of the rules: RFC 9110 section 7.2, RFC 9112 section 6.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from rayflow.api.decode import fault
from rayflow.api.problems import HeadersInvalid
from rayflow.ids import is_safe_id

MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 * 1024
MAX_LENGTH_DIGITS = 18
MAX_TIMEOUT_S = 86_400.0

Headers = dict[bytes, bytes]

_SINGLE = (
    b"host", b"content-length", b"content-type", b"transfer-encoding",
    b"authorization", b"x-api-key", b"x-session-id", b"x-timeout-s", b"idempotency-key", b"x-rayflow-priority",
    b"x-rayflow-in-progress", b"last-event-id", b"x-session-lock", b"origin",
)  # fmt: skip


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Headers by lower-case name; of repeated ones that are harmless, the last. Raises `HeadersInvalid`."""
    pairs = list(raw)
    if len(pairs) > MAX_HEADERS:
        raise HeadersInvalid(f"more than {MAX_HEADERS} headers", limit=MAX_HEADERS)
    if sum(map(len, chain.from_iterable(pairs))) > MAX_HEADER_BYTES:
        raise HeadersInvalid(f"more than {MAX_HEADER_BYTES} bytes of headers", limit=MAX_HEADER_BYTES)
    headers = dict(pairs)
    if len(headers) != len(pairs):
        _refuse_repeated(pairs)
    if b"host" not in headers:
        raise HeadersInvalid("the Host header is missing", param="host")
    if b"content-length" in headers and b"transfer-encoding" in headers:
        raise HeadersInvalid("Content-Length and Transfer-Encoding exclude each other", param="content-length")
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > MAX_LENGTH_DIGITS:
        raise HeadersInvalid("Content-Length must be a number of bytes", param="content-length")
    return headers


def _refuse_repeated(pairs: list[tuple[bytes, bytes]]) -> None:
    names = [name for name, _ in pairs]
    for name in _SINGLE:
        if names.count(name) > 1:
            text = name.decode()
            raise HeadersInvalid(f"the header {text} was sent more than once; send it once", param=text)


def session_lock(headers: Headers) -> str:
    """The token in `X-Session-Lock` of a lock that the client holds on the session; empty where there is none."""
    return headers.get(b"x-session-lock", b"").decode("latin-1")


def timeout_s(headers: Headers) -> float | None:
    """Seconds from `X-Timeout-S`: how long the client wants to wait at most; None where it does not say."""
    raw = headers.get(b"x-timeout-s")
    if raw is None:
        return None
    try:
        seconds = float(raw)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MAX_TIMEOUT_S:
        raise fault("x-timeout-s", f"must be seconds above 0, at most {MAX_TIMEOUT_S:.0f}")
    return seconds


def session_header(headers: Headers) -> str | None:
    """The id in `X-Session-Id`; None where there is none. Raises `ValidationError` for an unsafe one."""
    raw = headers.get(b"x-session-id")
    return None if raw is None else safe_id(raw.decode("latin-1"), "x-session-id")


def safe_id(text: str, param: str) -> str:
    """The client's id as it is, or `ValidationError` naming `param`."""
    if not is_safe_id(text):
        raise fault(param, "must be 1 to 255 letters, digits and . _ : @ / -, starting with a letter or digit")
    return text
