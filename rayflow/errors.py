"""Every error a user of rayflow can meet, as one tree.

An error carries facts as fields, not prose: `details` is plain JSON data, so an error survives pickling, a hop over the
fabric and an HTTP answer without losing anything. `slug` is the stable name (RFC 9457 `type` is
`urn:rayflow:problem:<slug>`), `error_code` the family, `status` the HTTP status an API answers with, and `retryable`
says whether the same request may succeed later without being changed.

    WorkflowError
    ├── ConfigurationError        config-invalid            the workflow file, a flag or a variable
    ├── ValidationError           invalid-request           the request; `param` names the field
    │   ├── InvalidJson           invalid-json
    │   ├── InvalidEncoding       invalid-encoding
    │   ├── BodyTooLarge          body-too-large
    │   ├── ContentRejected       content-rejected          the text broke a configured policy
    │   ├── KeyReused             idempotency-key-reused    the key belongs to another request
    │   ├── SqlNotAllowed         sql-not-allowed           the SQL is wrong, or reaches beyond the views
    │   ├── SqlTimeout            sql-timeout               the question took longer than `limit_s`
    │   ├── SqlTooLarge           sql-too-large             the question took more memory, or its answer is too large
    │   └── PoisonMessage         poison-message            `replicas` died working on it: in quarantine
    ├── AuthenticationError       unauthenticated
    ├── NotFound                  not-found                 `kind` and `id` say what
    ├── Conflict                  conflict
    ├── SessionLocked             session-locked            somebody else has locked it, for `retry_after_s` at most
    ├── Overloaded                overloaded                a bounded queue is full; `retry_after_s`
    │   ├── RateLimited           rate-limited              too many requests of one key; `retry_after_s`
    │   └── BudgetExceeded        budget-exceeded           a budget is used up until `retry_after_s` from now
    ├── Unavailable               unavailable               not ready, draining or lost; `retry_after_s`
    │   └── CircuitOpen           circuit-open              the model kept failing; `retry_after_s`: the next probe
    ├── Cancelled                 cancelled
    ├── StorageError              storage-failed
    │   ├── StorageFull           storage-full
    │   └── Fenced                fenced                    another owner took the store over; `epoch`, `owner`
    └── ExecutionError            execution-failed
        ├── DeadlineExceeded      deadline-exceeded
        ├── ModelError            model-failed              `model`, `upstream_status`
        │   ├── ModelTimeout      model-timeout             `phase`: connect, first_token, between_tokens or total
        │   ├── ModelRateLimited  model-rate-limited        `retry_after_s`
        │   ├── ModelRejected     model-rejected            the endpoint refused the request (4xx): do not retry
        │   └── ModelIncomplete   model-incomplete          the stream ended early or held garbage; `partial`
        └── FabricError           fabric-failed
            ├── PeerLost          peer-lost                 the process at the other end is gone
            ├── UnknownAddress    unknown-address
            └── FrameInvalid      frame-invalid
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar

import msgspec


class Exit(IntEnum):
    """Exit codes, the same for every command and process (docs/operations.md)."""

    OK = 0
    BUG = 1
    USAGE = 2
    CONFIG = 3
    INPUT = 4
    PARTIAL = 5
    """Finished with failed rows or with differences that were not to be, or a drain was cut short."""
    DEPENDENCY = 6
    STORAGE = 7


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error on its way across a process boundary or into a log."""

    slug: str
    message: str
    details: dict[str, Any] = {}


class WorkflowError(Exception):
    """Root of the tree.

    `message` says what happened, where, and what to do; `details` holds the same facts as JSON data.
    """

    slug: ClassVar[str] = "internal-error"
    error_code: ClassVar[str] = "WORKFLOW_ERROR"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.details)

    def to_info(self) -> ErrorInfo:
        return ErrorInfo(slug=self.slug, message=self.message, details=self.details)

    @property
    def retry_after_s(self) -> float | None:
        """Seconds to wait before trying again, where the source of the error knows."""
        value = self.details.get("retry_after_s")
        return float(value) if value is not None else None


def _rebuild(cls: type[WorkflowError], message: str, details: dict[str, Any]) -> WorkflowError:
    return cls(message, **details)


class ConfigurationError(WorkflowError):
    slug, error_code, title, status = "config-invalid", "WORKFLOW_CONFIG_ERROR", "Invalid configuration", 500


class ValidationError(WorkflowError):
    slug, error_code, title, status = "invalid-request", "WORKFLOW_VALIDATION_ERROR", "Invalid request", 400


class InvalidJson(ValidationError):
    slug, title = "invalid-json", "Body is not valid JSON"


class InvalidEncoding(ValidationError):
    slug, title = "invalid-encoding", "Body is not UTF-8"


class BodyTooLarge(ValidationError):
    slug, title, status = "body-too-large", "Body too large", 413


class ContentRejected(ValidationError):
    slug, title, status = "content-rejected", "Content not accepted", 422


class KeyReused(ValidationError):
    slug, title, status = "idempotency-key-reused", "Idempotency-Key belongs to another request", 422

    def __init__(
        self,
        message: str = "this Idempotency-Key belongs to a request with another body: use a new key for a new request",
        **details: Any,
    ) -> None:
        super().__init__(message, **{"param": "idempotency-key", **details})


class SqlNotAllowed(ValidationError):
    slug, title, status = "sql-not-allowed", "SQL not allowed", 422


class SqlTimeout(ValidationError):
    slug, title, status = "sql-timeout", "SQL took too long", 408


class SqlTooLarge(ValidationError):
    slug, title, status = "sql-too-large", "SQL needs too much", 413


class PoisonMessage(ValidationError):
    slug, title, status = "poison-message", "Message ended the processes that worked on it", 422


class AuthenticationError(WorkflowError):
    slug, error_code, title, status = "unauthenticated", "WORKFLOW_AUTH_ERROR", "Missing or wrong API key", 401


class NotFound(WorkflowError):
    slug, error_code, title, status = "not-found", "WORKFLOW_NOT_FOUND", "Not found", 404


class Conflict(WorkflowError):
    slug, error_code, title, status = "conflict", "WORKFLOW_CONFLICT", "Conflict", 409


class SessionLocked(WorkflowError):
    slug, error_code, title, status = "session-locked", "WORKFLOW_SESSION_LOCKED", "Session is locked", 409
    retryable = True


class Overloaded(WorkflowError):
    slug, error_code, title, status, retryable = "overloaded", "WORKFLOW_OVERLOADED", "Too many requests", 429, True


class RateLimited(Overloaded):
    slug, title = "rate-limited", "Rate limit reached"


class BudgetExceeded(Overloaded):
    slug, title = "budget-exceeded", "Budget used up"


class Unavailable(WorkflowError):
    slug, error_code, title, status, retryable = "unavailable", "WORKFLOW_UNAVAILABLE", "Not available", 503, True


class CircuitOpen(Unavailable):
    slug, title = "circuit-open", "Model is not called for a while"


class Cancelled(WorkflowError):
    slug, error_code, title, status = "cancelled", "WORKFLOW_CANCELLED", "Run was cancelled", 499


class StorageError(WorkflowError):
    slug, error_code, title, status = "storage-failed", "WORKFLOW_STORAGE_ERROR", "Storage failed", 500


class StorageFull(StorageError):
    slug, title, status, retryable = "storage-full", "Storage is full", 507, True


class Fenced(StorageError):
    slug, title, status, retryable = "fenced", "Another owner has taken over", 503, True


class ExecutionError(WorkflowError):
    slug, error_code, title, status = "execution-failed", "WORKFLOW_EXECUTION_ERROR", "Run failed", 500


class DeadlineExceeded(ExecutionError):
    slug, title, status, retryable = "deadline-exceeded", "Deadline exceeded", 504, True


class ModelError(ExecutionError):
    slug, title, status, retryable = "model-failed", "Model endpoint failed", 502, True


class ModelTimeout(ModelError):
    slug, title, status = "model-timeout", "Model endpoint timed out", 504


class ModelRateLimited(ModelError):
    slug, title, status = "model-rate-limited", "Model endpoint is rate limited", 429


class ModelRejected(ModelError):
    slug, title, status, retryable = "model-rejected", "Model endpoint refused the request", 502, False


class ModelIncomplete(ModelError):
    slug, title = "model-incomplete", "Model answer was incomplete"


class FabricError(ExecutionError):
    slug, title, status, retryable = "fabric-failed", "Internal transport failed", 503, True


class PeerLost(FabricError):
    slug, title = "peer-lost", "A process of the system was lost"


class UnknownAddress(FabricError):
    slug, title = "unknown-address", "No actor at that address"


class FrameInvalid(FabricError):
    slug, title, retryable = "frame-invalid", "Malformed frame", False


def _tree(cls: type[WorkflowError]) -> dict[str, type[WorkflowError]]:
    found = {cls.slug: cls}
    for sub in cls.__subclasses__():
        found.update(_tree(sub))
    return found


BY_SLUG: dict[str, type[WorkflowError]] = _tree(WorkflowError)


def from_info(info: ErrorInfo) -> WorkflowError:
    """The exception an `ErrorInfo` was made from; an unknown slug becomes a plain `WorkflowError`."""
    return BY_SLUG.get(info.slug, WorkflowError)(info.message, **info.details)


def to_info(error: BaseException) -> ErrorInfo:
    """What may be said of any exception outside its process: facts for ours, only the type's name for others."""
    if isinstance(error, WorkflowError):
        return error.to_info()
    return ErrorInfo(slug=WorkflowError.slug, message=f"unexpected {type(error).__name__}; see the log of this actor")
