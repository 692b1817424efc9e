"""Each fault of an endpoint has its error, and none shows the key."""

from __future__ import annotations

import msgspec
import pytest

from rayflow.errors import ModelError, ModelRateLimited, ModelRejected, ModelTimeout
from rayflow.models.upstream import MAX_QUOTE_CHARS, Upstream, error_message, retry_after_s

UPSTREAM = Upstream("m", "http://host/v1", "sk-key")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, ModelRejected),
        (400, ModelRejected),
        (401, ModelRejected),
        (403, ModelRejected),
        (404, ModelRejected),
        (408, ModelError),
        (409, ModelError),
        (413, ModelRejected),
        (422, ModelRejected),
        (429, ModelRateLimited),
        (500, ModelError),
        (503, ModelError),
        (529, ModelError),
    ],
)
def test_a_status_has_its_error(status: int, kind: type[ModelError]) -> None:
    fault = UPSTREAM.status_fault(status, {}, b'{"error": {"message": "why"}}')
    assert type(fault) is kind
    assert fault.details["upstream_status"] == status
    assert fault.message.startswith("model 'm' at http://host/v1: ")


@pytest.mark.parametrize("error", [{"code": "insufficient_quota"}, {"type": "insufficient_quota", "code": None}])
def test_a_quota_that_is_used_up_is_no_limit_to_wait_for(error: dict[str, str | None]) -> None:
    body = msgspec.json.encode({"error": {"message": "check your plan", **error}})
    fault = UPSTREAM.status_fault(429, {"retry-after": "1"}, body)
    assert type(fault) is ModelRejected and fault.retry_after_s is None
    assert fault.details["upstream_code"] == "insufficient_quota" and "check your plan" in fault.message


def test_a_refused_key_is_not_quoted_even_in_part() -> None:
    fault = UPSTREAM.status_fault(401, {}, b'{"error": {"message": "wrong key sk-k..."}}')
    assert "sk-k" not in fault.message
    assert "check api_key" in fault.message


def test_quotes_are_one_line_bounded_and_without_the_key() -> None:
    quoted = UPSTREAM.quote("a\n b sk-key " + "x" * 2 * MAX_QUOTE_CHARS)
    assert quoted.startswith("a b [key] x")
    assert len(quoted) == MAX_QUOTE_CHARS + 4


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "20", "retry-after": "9"}, 0.02),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_either_unit(headers: dict[str, str], wait_s: float | None) -> None:
    assert retry_after_s(headers) == wait_s
    assert UPSTREAM.status_fault(429, headers, b"").retry_after_s == wait_s


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"message": "a"}}', "a"),
        (b'{"error": "b"}', "b"),
        (b'{"detail": "c"}', "c"),
        (b'{"error": {"code": 7}}', '{"code":7}'),
        (b"plain words", "plain words"),
        (b"<html><body>x", "an HTML page instead of JSON"),
        (b"", ""),
    ],
)
def test_the_upstreams_words_are_found_in_any_shape(body: bytes, said: str) -> None:
    assert error_message(body) == said


def test_only_a_real_timeout_is_called_one() -> None:
    refused = RuntimeError("sdk")
    refused.__cause__ = ConnectionRefusedError("refused")
    late = RuntimeError("sdk")
    late.__cause__ = TimeoutError()
    assert type(UPSTREAM.connection_fault(refused, 5.0)) is ModelError
    fault = UPSTREAM.connection_fault(late, 5.0)
    assert type(fault) is ModelTimeout
    assert fault.details["phase"] == "connect"
