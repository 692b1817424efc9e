"""The routes of working states."""

from __future__ import annotations

from starlette.responses import Response

from rayflow.api.openapi import DocumentedApi, answers, no_content, request_body
from rayflow.api.state_shapes import (
    CheckpointRequest,
    RestoreRequest,
    SessionState,
    StateCheckpoint,
    StateCheckpoints,
    StateHistory,
    StatePatch,
)
from rayflow.api.states import States

STATE = "/sessions/{session_id:path}/state"


def add_state_routes(api: DocumentedApi, states: States) -> None:
    """To be added before the routes of sessions, which would take these for ids with slashes."""
    api.add_api_route(
        f"{STATE}/checkpoints/{{name}}",
        states.delete_checkpoint,
        methods=["DELETE"],
        status_code=204,
        summary="Delete a checkpoint of a session's working state",
        responses=no_content("It is gone."),
        response_class=Response,
    )
    api.add_api_route(
        f"{STATE}/checkpoints",
        states.checkpoints,
        summary="The checkpoints of a session's working state",
        responses=answers(200, "All of them.", StateCheckpoints),
        response_class=Response,
    )
    api.add_api_route(
        f"{STATE}/checkpoints",
        states.checkpoint,
        methods=["POST"],
        status_code=201,
        summary="Keep a version of a session's working state under a name",
        openapi_extra=request_body(CheckpointRequest),
        responses=answers(201, "The new checkpoint.", StateCheckpoint),
        response_class=Response,
    )
    api.add_api_route(
        f"{STATE}/history",
        states.history,
        summary="What the last versions of a session's working state have changed, the newest first",
        responses=answers(200, "A page of versions.", StateHistory),
        response_class=Response,
    )
    api.add_api_route(
        f"{STATE}/restore",
        states.restore,
        methods=["POST"],
        summary="Go back to a checkpoint or version of a session's working state, as a new version",
        openapi_extra=request_body(RestoreRequest),
        responses=answers(200, "The state as it is now.", SessionState),
        response_class=Response,
    )
    api.add_api_route(
        STATE,
        states.read,
        summary="The working state of a session",
        responses=answers(200, "The state.", SessionState),
        response_class=Response,
    )
    api.add_api_route(
        STATE,
        states.update,
        methods=["PATCH"],
        summary="Change the working state of a session, all or nothing",
        openapi_extra=request_body(StatePatch),
        responses=answers(200, "The state as it is now.", SessionState),
        response_class=Response,
    )
