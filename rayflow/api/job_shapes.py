"""Batch jobs in rayflow's own terms: what may be asked, and what is told of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rayflow.api.completion_request import Metadata
from rayflow.api.decode import fault
from rayflow.app.jobs.records import ENDED, Counts, JobRecord
from rayflow.chat import NO_PARAMS, ModelParams

Name = Annotated[str, Meta(min_length=1, max_length=128)]


class JobInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Exactly one of: `items` (the rows themselves), `file_id` (of `/v1/files`), `paths` (on the server, where
    `batch.input_roots` allows them). `format`: jsonl, json, csv, tsv, parquet or openai; "" tells it by the name."""

    items: list[Any] | None = None
    file_id: str | None = None
    paths: list[str] | None = None
    format: Literal["", "jsonl", "json", "csv", "tsv", "parquet", "openai"] = ""


class Judging(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is asked about each conversation. `labels`: the answer is one of them; `score`: or between these."""

    instruction: Annotated[str, Meta(min_length=1, max_length=20_000)]
    labels: list[Name] = []
    score: tuple[float, float] | None = None


class JobRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A job. `fields`, `id_fields`: where input and id of a row stand; `role_field`, `content_field`: the same of the
    messages of a conversation. `params`: options for every call, under OpenAI's names."""

    input: JobInput
    mode: Literal["replay", "prompt", "judge"] = "replay"
    judging: Judging | None = None
    fields: list[Name] = []
    id_fields: list[Name] = []
    role_field: str = ""
    content_field: str = ""
    agent: str = ""
    system_prompt: Annotated[str, Meta(max_length=100_000)] = ""
    params: ModelParams = NO_PARAMS
    user_id: Annotated[str, Meta(max_length=255)] = ""
    limit: Annotated[int, Meta(ge=1)] | None = None
    sample: Annotated[int, Meta(ge=1)] | None = None
    seed: int = 0
    concurrency: Annotated[int, Meta(ge=1, le=4096)] | None = None
    feeders: Annotated[int, Meta(ge=1, le=64)] = 1
    rows_per_s: Annotated[float, Meta(gt=0)] | None = None
    tokens_per_min: Annotated[int, Meta(ge=1)] | None = None
    cost_usd: Annotated[float, Meta(gt=0)] | None = None
    callback_url: str | None = None
    """Told of the end of the job."""
    metadata: Metadata | None = None

    def check(self) -> None:
        """Raises `ValidationError` for what types alone cannot say."""
        given = [name for name in ("items", "file_id", "paths") if getattr(self.input, name) is not None]
        if len(given) != 1:
            raise fault("input", "must have exactly one of items, file_id and paths")
        if not getattr(self.input, given[0]):
            raise fault(f"input.{given[0]}", "is empty: there is nothing to run")
        if (self.mode == "judge") != (self.judging is not None):
            raise fault("judging", "belongs to mode judge, which needs it")


class JobCallback(msgspec.Struct, frozen=True):
    """`state`: waiting, delivered or failed."""

    url: str
    state: str
    attempts: int
    error: str


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job. `status`: queued, in_progress, finalizing, paused, completed, failed, cancelling or cancelled. Times are
    Unix seconds; `left_s` is an estimate."""

    job_id: str
    status: str
    reason: str
    created_at: int
    started_at: int | None
    finished_at: int | None
    counts: Counts
    rows_per_s: float
    left_s: float | None
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    callback: JobCallback | None
    metadata: dict[str, str]


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    """The newest first; `after` of the next page is the last id of this one."""

    jobs: list[Job]
    has_more: bool


def job_of(record: JobRecord) -> Job:
    callback = record.callback
    return Job(
        job_id=record.id,
        status=record.status,
        reason=record.reason,
        created_at=record.created_s,
        started_at=record.times.get("in_progress"),
        finished_at=record.times.get(record.status) if record.status in ENDED else None,
        counts=record.counts,
        rows_per_s=record.rows_per_s,
        left_s=record.left_s,
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        cost_usd=record.cost_usd,
        callback=JobCallback(callback.url, callback.state, callback.attempts, callback.error) if callback else None,
        metadata=record.metadata,
    )
