"""How a refusal looks on the wire: one error, two shapes.

Under /v1 a client expects OpenAI's `{"error": {message, type, param, code}}`; everywhere else it gets problem details
(RFC 9457). Both are made from the same `WorkflowError`, so status, slug and retry advice never differ. openai-python
retries 408, 409, 429 and every 5xx unless told otherwise: `x-should-retry: false` says so wherever the error knows that
the same request cannot succeed.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import orjson

from rayflow.errors import (
    AuthenticationError,
    BodyTooLarge,
    NotFound,
    Overloaded,
    Unavailable,
    ValidationError,
    WorkflowError,
)

log = logging.getLogger(__name__)

RawHeaders = list[tuple[bytes, bytes]]

PROBLEM_TYPE = "urn:rayflow:problem:"
DEFAULT_RETRY_AFTER_S = 1.0


class HeadersInvalid(ValidationError):
    """Headers that two readers could understand differently, or too many of them. The connection is closed."""

    slug, title = "headers-invalid", "Headers not acceptable"


class UnsupportedMediaType(ValidationError):
    slug, title, status = "unsupported-media-type", "Body is not application/json", 415


class UnsupportedParameter(ValidationError):
    """A known parameter that nothing implements: refused, because ignoring it would answer another question."""

    slug, title, status = "unsupported-parameter", "Parameter not supported", 422


class MethodNotAllowed(ValidationError):
    slug, title, status = "method-not-allowed", "Method not allowed", 405


class UpgradeRequired(ValidationError):
    slug, title, status = "upgrade-required", "Route of WebSockets", 426


class OriginNotAllowed(ValidationError):
    """A page of another site wants to talk in the name of whoever looks at it."""

    slug, title, status = "origin-not-allowed", "Pages of this site may not connect", 403


class BodyTooSlow(ValidationError):
    slug, title, status, retryable = "body-too-slow", "Body arrived too slowly", 408, True


class ClientGone(Exception):
    """The client closed the connection, or stopped reading. Its run is cancelled and nothing is answered."""

    status = 499


def explained(error: Exception, request_id: str) -> WorkflowError:
    """What a client may be told: our own errors as they are, of any other only that it is in the log, with its id."""
    if isinstance(error, WorkflowError):
        return error
    log.error("request %s failed unexpectedly", request_id, exc_info=error)
    return WorkflowError("unexpected error; the server's log has it under the request id")


def answer(error: WorkflowError, path: str, request_id: str) -> tuple[int, RawHeaders, bytes]:
    """Status, headers and body of the answer to a request for `path` that failed with `error`."""
    if is_openai(path):
        body, media = openai_error(error), b"application/json"
    else:
        body, media = orjson.dumps(problem(error, request_id), default=str), b"application/problem+json"
    headers = [(b"content-type", media), (b"content-length", b"%d" % len(body)), *_advice(error)]
    return error.status, headers, body


def is_openai(path: str) -> bool:
    return path.startswith("/v1/")


def openai_error(error: WorkflowError) -> bytes:
    """OpenAI's error object, also the data of an error within a stream."""
    return orjson.dumps(
        {
            "error": {
                "message": error.message,
                "type": _openai_type(error.status),
                "param": error.details.get("param"),
                "code": openai_code(error),
            }
        }
    )


def openai_code(error: WorkflowError) -> str:
    """OpenAI's own code where clients look for one, else our slug."""
    if isinstance(error, AuthenticationError):
        return "invalid_api_key"
    if isinstance(error, NotFound) and error.details.get("kind") == "model":
        return "model_not_found"
    return error.slug


def problem(error: WorkflowError, request_id: str) -> dict[str, Any]:
    """Problem details; the error's facts are extension members and never hide a member of the RFC."""
    return {
        **error.details,
        "type": PROBLEM_TYPE + error.slug,
        "title": error.title,
        "status": error.status,
        "detail": error.message,
        "instance": request_id,
        "error_code": error.error_code,
    }


def _openai_type(status: int) -> str:
    if status == 401:
        return "authentication_error"
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def _advice(error: WorkflowError) -> RawHeaders:
    headers: RawHeaders = []
    if not error.retryable:
        headers.append((b"x-should-retry", b"false"))
    wait_s = error.retry_after_s
    if wait_s is None and isinstance(error, Overloaded | Unavailable):
        wait_s = DEFAULT_RETRY_AFTER_S
    if wait_s is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(wait_s)))
        headers.append((b"retry-after-ms", b"%d" % math.ceil(wait_s * 1000)))
    if isinstance(error, AuthenticationError):
        headers.append((b"www-authenticate", b'Bearer realm="rayflow"'))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", str(error.details["allow"]).encode()))
    if isinstance(error, UpgradeRequired):
        headers.append((b"upgrade", b"websocket"))
    if isinstance(error, HeadersInvalid | BodyTooSlow | BodyTooLarge):  # what follows on this connection is not trusted
        headers.append((b"connection", b"close"))
    return headers
