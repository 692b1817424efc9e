"""What can go wrong at an endpoint, said once and in one form.

Errors name the model and the endpoint, carry the upstream's own words where those are safe to show, and never a key:
the answer to a refused key is not quoted at all (endpoints like to repeat the key in it), and other texts are
searched for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from rayflow.errors import ModelError, ModelRateLimited, ModelRejected, ModelTimeout

MAX_QUOTE_CHARS = 500
RETRYABLE_4XX = frozenset({408, 409, 425})
QUOTA_CODE = "insufficient_quota"

FaultT = TypeVar("FaultT", bound=ModelError)


class Upstream(NamedTuple):
    """Which model at which endpoint, and the key that no message may show."""

    model: str
    url: str
    key: str

    def fault(self, kind: type[FaultT], what: str, **details: Any) -> FaultT:
        return kind(f"model {self.model!r} at {self.url}: {what}", model=self.model, **details)

    def quote(self, text: str) -> str:
        """The upstream's words, fit to be shown: one line, bounded, without the key."""
        line = " ".join(text.split())
        if self.key:
            line = line.replace(self.key, "[key]")
        return line if len(line) <= MAX_QUOTE_CHARS else line[:MAX_QUOTE_CHARS] + " ..."

    def status_fault(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelError:
        """The error for an answer whose HTTP status is not 2xx."""
        facts: dict[str, Any] = {"upstream_status": status}
        if status in (401, 403):
            return self.fault(ModelRejected, f"the API key was refused (HTTP {status}); check api_key", **facts)
        said = self.quote(error_message(body))
        what = f"HTTP {status}: {said}" if said else f"HTTP {status}"
        if status == 429 and error_code(body) == QUOTA_CODE:
            # A limit is waited for; this is not there again until somebody has paid.
            return self.fault(ModelRejected, f"the quota is used up ({what})", upstream_code=QUOTA_CODE, **facts)
        if status == 429:
            wait_s = retry_after_s(headers)
            if wait_s is not None:
                facts["retry_after_s"] = wait_s
            return self.fault(ModelRateLimited, what, **facts)
        if status >= 500 or status in RETRYABLE_4XX:
            return self.fault(ModelError, what, **facts)
        if status < 400:
            what = f"HTTP {status}, a redirect to {headers.get('location', 'nowhere')}; check base_url"
        return self.fault(ModelRejected, what, **facts)

    def connection_fault(self, error: BaseException, connect_s: float) -> ModelError:
        """The error for a request that got no answer at all.

        The SDK's aiohttp transport reports refused and dropped connections as timeouts; only the cause knows better.
        """
        causes = _causes(error)
        if any(isinstance(cause, TimeoutError) for cause in causes):
            return self.fault(ModelTimeout, f"no connection within {connect_s:g} s", phase="connect")
        root = causes[-1]
        return self.fault(ModelError, f"no answer: {self.quote(str(root)) or type(root).__name__}")


def error_message(body: bytes) -> str:
    """The message in OpenAI's error shape or one of its relatives; other text as it is, but no HTML."""
    try:
        parsed = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body[: 4 * MAX_QUOTE_CHARS].decode("utf-8", "replace").strip()
        return "an HTML page instead of JSON" if text.startswith("<") else text
    return error_text(parsed.get("error", parsed) if isinstance(parsed, dict) else parsed)


def error_code(body: bytes) -> str:
    """The code (or type) in OpenAI's error shape; "" where there is none."""
    try:
        parsed = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    error = parsed.get("error") if isinstance(parsed, dict) else None
    found = (error.get("code") or error.get("type")) if isinstance(error, dict) else None
    return found if isinstance(found, str) else ""


def error_text(error: object) -> str:
    """The words of an `error` value: its message where it is an object that has one."""
    if isinstance(error, dict):
        for key in ("message", "detail", "error"):
            if isinstance(error.get(key), str):
                return str(error[key])
    return error if isinstance(error, str) else msgspec.json.encode(error).decode()


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds from `retry-after-ms` or `retry-after`; None where neither holds a number (dates are not read)."""
    for name, unit_s in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            value = float(headers[name]) * unit_s
        except (KeyError, ValueError):
            continue
        if 0 <= value < float("inf"):
            return value
    return None


def _causes(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None:
        chain.append(error)
        error = error.__cause__
    return chain
