"""OpenAI's batches around the engine: whether a file may be run at all, and its answers as files.

An output line has the envelope of `POST /v1/batches`: `{id, custom_id, response: {status_code, request_id, body},
error}`. Answers go to one file, everything else to another. They are made from the input and the results side by side,
both in order, so neither is ever in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from rayflow.api.completion_answer import completion
from rayflow.api.problems import openai_error
from rayflow.app.jobs.files import FileStore
from rayflow.app.jobs.records import Counts, JobRecord, LineError
from rayflow.batch import parts
from rayflow.batch.directory import JobDirectory
from rayflow.batch.inputs.bounds import Bounds
from rayflow.batch.inputs.ids import IdSet
from rayflow.batch.inputs.jsonl import read_jsonl
from rayflow.batch.inputs.openai import check_envelope
from rayflow.batch.inputs.places import Place
from rayflow.batch.inputs.records import Blank, Entry, Fault
from rayflow.chat import ToolCall, Usage
from rayflow.errors import BY_SLUG, ValidationError, WorkflowError
from rayflow.ids import new_run_id
from rayflow.messages import RunResult

MAX_ERRORS = 100
"""So many faults of a file are told."""
COLUMNS = [
    "ordinal", "id", "status", "error", "error_message", "answers", "finish_reason", "tool_calls", "run_ids",
    "prompt_tokens", "completion_tokens",
]  # fmt: skip


def faults(path: str, endpoint: str, bounds: Bounds, max_lines: int) -> tuple[int, list[LineError]]:
    """How many requests a file holds, and why it cannot be run. Raises `ValidationError` where it cannot be read."""
    ids = IdSet()
    lines = 0
    wrong: list[LineError] = []
    for entry in read_jsonl(Place(path, ""), bounds):
        if isinstance(entry, Blank):
            continue
        lines += 1
        if lines > max_lines:
            message = f"The file has more than {max_lines} requests; split it."
            return lines, [LineError("too_many_requests", message, entry.line)]
        if (fault := _fault(entry, endpoint, ids)) is not None and len(wrong) < MAX_ERRORS:
            wrong.append(fault)
    return lines, wrong if lines else [LineError("empty_file", "The file has no requests.")]


def _fault(entry: Entry, endpoint: str, ids: IdSet) -> LineError | None:
    assert not isinstance(entry, Blank)
    if isinstance(entry, Fault):
        return LineError("invalid_json_line", f"This line cannot be read: {entry.message}.", entry.line)
    try:
        custom_id = check_envelope(entry.value, endpoint)
    except ValidationError as error:
        return LineError(error.details["code"], error.message, entry.line, error.details["param"])
    if not ids.add(custom_id):
        message = f"The custom_id {custom_id[:64]!r} was used before; it must be unique in the file."
        return LineError("duplicate_custom_id", message, entry.line, "custom_id")
    return None


class Written(NamedTuple):
    """What `write` has made. No file where there is nothing to say."""

    counts: Counts
    output_file_id: str | None
    error_file_id: str | None


def write(
    record: JobRecord, path: str, directory: JobDirectory, files: FileStore, workflow: str, bounds: Bounds, now_s: int
) -> Written:
    """Make the files of a batch whose run is over. Written anew, they are the same files.

    Requests that were never begun are told where the batch expired; where it was cancelled they are left out. Raises
    `StorageError`.
    """
    results = _results(directory)
    result = next(results, None)
    unique = record.id.removeprefix("batch_")
    output, errors = files.draft(f"file-{unique}01"), files.draft(f"file-{unique}02")
    total = completed = failed = 0
    try:
        # Ordinals count what `Source` counts: every line that is not blank.
        lines = (entry for entry in read_jsonl(Place(path, ""), bounds) if not isinstance(entry, Blank))
        for ordinal, entry in enumerate(lines, 1):
            total += 1
            value: Any = {} if isinstance(entry, Fault) else entry.value
            number = f"batch_req_{unique}{ordinal:06x}"
            if result is None or result["ordinal"] != ordinal:
                if record.status == "expired":
                    failed += 1
                    errors.write(_line(number, value["custom_id"], error=_EXPIRED))
                continue
            if result["status"] == "ok":
                completed += 1
                output.write(_answered(number, value, result, workflow, now_s))
            else:
                failed += 1
                errors.write(_refused(number, value, result))
            result = next(results, None)
        kept = [
            draft.keep(record.tenant, f"{record.id}_{name}.jsonl", "batch_output", now_s).id if draft.bytes else None
            for draft, name in ((output, "output"), (errors, "error"))
        ]
    finally:
        output.drop()
        errors.drop()
    return Written(Counts(total, completed, failed), *kept)


_EXPIRED = {"code": "batch_expired", "message": "This request could not be run before the batch expired."}


def _results(directory: JobDirectory) -> Iterator[dict[str, Any]]:
    for part in directory.parts():
        for batch in parts.read(part, COLUMNS):
            yield from batch.to_pylist()


def _answered(number: str, value: dict[str, Any], row: dict[str, Any], workflow: str, now_s: int) -> bytes:
    calls = row["tool_calls"]
    result = RunResult(
        row["run_ids"][-1],
        "",
        row["answers"][-1],
        row["finish_reason"] or "stop",
        Usage(row["prompt_tokens"], row["completion_tokens"]),
        "",
        [],
        tool_calls=msgspec.json.decode(calls, type=list[ToolCall]) if calls else [],
    )
    model = value["body"]["model"]
    body = msgspec.Raw(completion(result, workflow if model == "auto" else model, now_s))
    return _line(number, value["custom_id"], 200, result.run_id, body)


def _refused(number: str, value: dict[str, Any], row: dict[str, Any]) -> bytes:
    error = BY_SLUG.get(row["error"], WorkflowError)(row["error_message"] or "")
    request_id = (row["run_ids"] or [new_run_id()])[-1]
    return _line(number, value.get("custom_id", row["id"]), error.status, request_id, msgspec.Raw(openai_error(error)))


def _line(
    number: str,
    custom_id: str,
    status: int = 0,
    request_id: str = "",
    body: msgspec.Raw | None = None,
    error: dict[str, str] | None = None,
) -> bytes:
    response = {"status_code": status, "request_id": request_id, "body": body} if body is not None else None
    line = {"id": number, "custom_id": custom_id, "response": response, "error": error}
    return msgspec.json.encode(line) + b"\n"
