"""The routes of working states."""

from __future__ import annotations

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
    now = answers(200, "The state as it is now.", SessionState)
    api.route(
        "DELETE",
        f"{STATE}/checkpoints/{{name}}",
        states.delete_checkpoint,
        "Delete a checkpoint of a session's working state",
        no_content("It is gone."),
    )
    api.route(
        "GET",
        f"{STATE}/checkpoints",
        states.checkpoints,
        "The checkpoints of a session's working state",
        answers(200, "All of them.", StateCheckpoints),
    )
    api.route(
        "POST",
        f"{STATE}/checkpoints",
        states.checkpoint,
        "Keep a version of a session's working state under a name",
        answers(201, "The new checkpoint.", StateCheckpoint),
        request_body(CheckpointRequest),
    )
    api.route(
        "GET",
        f"{STATE}/history",
        states.history,
        "What the last versions of a session's working state have changed, the newest first",
        answers(200, "A page of versions.", StateHistory),
    )
    api.route(
        "POST",
        f"{STATE}/restore",
        states.restore,
        "Go back to a checkpoint or version of a session's working state, as a new version",
        now,
        request_body(RestoreRequest),
    )
    api.route("GET", STATE, states.read, "The working state of a session", answers(200, "The state.", SessionState))
    api.route(
        "PATCH",
        STATE,
        states.update,
        "Change the working state of a session, all or nothing",
        now,
        request_body(StatePatch),
    )
