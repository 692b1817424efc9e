"""The OpenAPI document. Its schemas come from the structs that decode and encode the bodies, so they cannot differ."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.responses import Response

from rayflow.analytics.reports import Report
from rayflow.api.analytics_shapes import QueryList, SqlAnswer, SqlRequest
from rayflow.api.batch_shapes import Batch, BatchList, BatchRequest
from rayflow.api.cache_shapes import CacheReport
from rayflow.api.catalogue import Model, ModelList
from rayflow.api.chat_answer import ChatAnswer
from rayflow.api.chat_request import ChatRequest
from rayflow.api.completion_answer import ChatCompletion
from rayflow.api.completion_request import ChatCompletionRequest
from rayflow.api.file_shapes import FileDeleted, FileList, FileObject
from rayflow.api.job_shapes import Job, JobPage, JobRequest
from rayflow.api.performance_shapes import AlertList, PerformanceStats
from rayflow.api.run_routes import RunStatus
from rayflow.api.session_shapes import (
    ForkRequest,
    Lock,
    LockRequest,
    Session,
    SessionChange,
    SessionHistory,
    SessionPage,
    SessionRequest,
)
from rayflow.api.state_shapes import (
    CheckpointRequest,
    RestoreRequest,
    SessionState,
    StateCheckpoint,
    StateCheckpoints,
    StateHistory,
    StatePatch,
)
from rayflow.api.system import State
from rayflow.api.user_shapes import (
    Consolidation,
    Erasure,
    FoundMemories,
    MemoryPage,
    MemoryRequest,
    MemorySearch,
    Preferences,
    RememberedThing,
    Removed,
)
from rayflow.app.feedback import Opinion

Schema = dict[str, Any]
Responses = dict[int | str, Schema]


class OpenAIErrorDetail(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(msgspec.Struct, frozen=True):
    """Every error under /v1."""

    error: OpenAIErrorDetail


class Problem(msgspec.Struct, frozen=True):
    """Every other error (RFC 9457); facts of the error are further members."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    error_code: str


SHOWN = (
    QueryList, SqlAnswer, SqlRequest,
    Batch, BatchList, BatchRequest, FileDeleted, FileList, FileObject, Job, JobPage, JobRequest,
    CacheReport,
    ChatCompletionRequest, ChatCompletion, ChatRequest, ChatAnswer, SessionRequest, SessionChange, ForkRequest,
    Session, SessionPage, SessionHistory, Lock, LockRequest,
    SessionState, StatePatch, StateHistory, StateCheckpoint, StateCheckpoints, CheckpointRequest, RestoreRequest,
    Consolidation, Erasure, FoundMemories, MemoryPage, MemoryRequest, MemorySearch, Preferences, RememberedThing,
    Removed,
    AlertList, Opinion, PerformanceStats, Report,
    RunStatus, Model, ModelList, OpenAIError, Problem, State,
)  # fmt: skip
_REF = "#/components/schemas/{name}"
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


class DocumentedApi(FastAPI):
    """FastAPI with our structs as schemas. `keyed`: whether requests need a key."""

    keyed = False

    def route(
        self,
        method: str,
        path: str,
        handler: Callable[..., Awaitable[Response]],
        summary: str,
        responses: Responses,
        body: Schema | None = None,
    ) -> None:
        """Add a handler that reads its request and writes its answer itself. `responses`: the usual one first."""
        self.add_api_route(
            path,
            handler,
            methods=[method],
            status_code=int(next(iter(responses))),
            summary=summary,
            openapi_extra=body,
            responses=responses,
            response_class=Response,
        )

    def openapi(self) -> Schema:
        if self.openapi_schema is None:
            document = super().openapi()
            components = document.setdefault("components", {})
            _, schemas = msgspec.json.schema_components(SHOWN, ref_template=_REF)
            components.setdefault("schemas", {}).update(schemas)
            if self.keyed:
                components["securitySchemes"] = _SECURITY
                document["security"] = [{name: []} for name in _SECURITY]
            self.openapi_schema = document
        return self.openapi_schema


def request_body(kind: type[msgspec.Struct], required: bool = True) -> Schema:
    """`openapi_extra` of a route that decodes its body itself."""
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": _ref(kind)}}}}


def answers(
    status: int, about: str, kind: type[msgspec.Struct], *, openai: bool = False, stream: bool = False
) -> Responses:
    """`responses` of a route: its answer, and the errors of its part of the API."""
    content: Schema = {"application/json": {"schema": _ref(kind)}}
    if stream:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    return {status: {"description": about, "content": content}, **errors(openai)}


def events(about: str) -> Responses:
    """`responses` of a route that only streams."""
    content: Schema = {"text/event-stream": {"schema": {"type": "string"}}}
    return {200: {"description": about, "content": content}, **errors()}


def form_body(fields: dict[str, str]) -> Schema:
    """`openapi_extra` of a route that takes a form. `fields`: "binary", or the one value that is taken."""
    properties = {
        name: {"type": "string", "format": "binary"} if kind == "binary" else {"type": "string", "enum": [kind]}
        for name, kind in fields.items()
    }
    schema = {"type": "object", "properties": properties, "required": [*fields]}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def bytes_of(about: str, *, openai: bool = False) -> Responses:
    """`responses` of a route that answers with a file."""
    content: Schema = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {200: {"description": about, "content": content}, **errors(openai)}


def no_content(about: str) -> Responses:
    return {204: {"description": about}, **errors()}


def errors(openai: bool = False) -> Responses:
    """`responses` of what may go wrong at a route."""
    media, kind = ("application/json", OpenAIError) if openai else ("application/problem+json", Problem)
    error = {"description": "The request was refused.", "content": {media: {"schema": _ref(kind)}}}
    return {"4XX": error, "5XX": {**error, "description": "The run or the service failed."}}


def _ref(kind: type[msgspec.Struct]) -> Schema:
    return {"$ref": _REF.format(name=kind.__name__)}
