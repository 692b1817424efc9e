"""OpenAI's batch objects (openai 3.52)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from rayflow.api.completion_request import Metadata
from rayflow.api.decode import fault
from rayflow.app.jobs.records import Counts, JobRecord, LineError

ENDPOINT = "/v1/chat/completions"
WINDOW = "24h"
WINDOW_S = 86_400


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: Metadata | None = None
    output_expires_after: Any = None
    """Taken and ignored: results are kept until they are deleted."""

    def check(self) -> None:
        """Raises `ValidationError`."""
        if self.endpoint != ENDPOINT:
            raise fault("endpoint", f"must be {ENDPOINT}")
        if self.completion_window != WINDOW:
            raise fault("completion_window", f"must be {WINDOW}")


class BatchErrors(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[LineError]


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """One batch. Times are Unix seconds."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str = WINDOW
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: Counts
    metadata: dict[str, str] | None


class BatchList(msgspec.Struct, frozen=True, kw_only=True):
    """A page, the newest first."""

    object: Literal["list"] = "list"
    data: list[Batch]
    first_id: str | None
    last_id: str | None
    has_more: bool


def batch_of(record: JobRecord) -> Batch:
    at = record.times.get
    return Batch(
        id=record.id,
        endpoint=record.endpoint,
        errors=BatchErrors(data=record.errors) if record.errors else None,
        input_file_id=record.input_file_id,
        # It waits for whoever runs it to look at it again; OpenAI has no word for that.
        status="in_progress" if record.status in ("paused", "queued") else record.status,
        output_file_id=record.output_file_id,
        error_file_id=record.error_file_id,
        created_at=record.created_s,
        in_progress_at=at("in_progress"),
        expires_at=record.expires_s,
        finalizing_at=at("finalizing"),
        completed_at=at("completed"),
        failed_at=at("failed"),
        expired_at=at("expired"),
        cancelling_at=at("cancelling"),
        cancelled_at=at("cancelled"),
        request_counts=record.counts,
        metadata=record.metadata or None,
    )
