"""The routes of sessions."""

from __future__ import annotations

from starlette.responses import Response

from rayflow.api.openapi import DocumentedApi, answers, no_content, request_body
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
from rayflow.api.sessions import Sessions

ONE = "/sessions/{session_id:path}"


def add_session_routes(api: DocumentedApi, sessions: Sessions) -> None:
    """Ids may hold slashes, so the longer paths come first."""
    api.add_api_route(
        "/sessions",
        sessions.create,
        methods=["POST"],
        status_code=201,
        summary="Make a session",
        openapi_extra=request_body(SessionRequest, required=False),
        responses=answers(201, "The new session.", Session),
        response_class=Response,
    )
    api.add_api_route(
        "/sessions",
        sessions.list,
        summary="All sessions, or those of a user, the newest first",
        responses=answers(200, "A page of sessions.", SessionPage),
        response_class=Response,
    )
    api.add_api_route(
        f"{ONE}/history",
        sessions.history,
        summary="The turns of a session, oldest first",
        responses=answers(200, "A page of turns.", SessionHistory),
        response_class=Response,
    )
    api.add_api_route(
        f"{ONE}/fork",
        sessions.fork,
        methods=["POST"],
        status_code=201,
        summary="Begin another session with the first turns of this one",
        openapi_extra=request_body(ForkRequest, required=False),
        responses=answers(201, "The new session.", Session),
        response_class=Response,
    )
    api.add_api_route(
        f"{ONE}/lock",
        sessions.lock,
        methods=["POST"],
        summary="Keep runs of others from beginning in a session, or renew that",
        openapi_extra=request_body(LockRequest, required=False),
        responses=answers(200, "The lock.", Lock),
        response_class=Response,
    )
    api.add_api_route(
        f"{ONE}/lock",
        sessions.unlock,
        methods=["DELETE"],
        status_code=204,
        summary="Give a lock back; its token is in X-Session-Lock",
        responses=no_content("It is given back."),
        response_class=Response,
    )
    api.add_api_route(
        f"{ONE}/close",
        sessions.close,
        methods=["POST"],
        summary="Take no more turns; everything stays readable",
        responses=answers(200, "The session.", Session),
        response_class=Response,
    )
    api.add_api_route(
        ONE,
        sessions.get,
        summary="One session",
        responses=answers(200, "The session.", Session),
        response_class=Response,
    )
    api.add_api_route(
        ONE,
        sessions.update,
        methods=["PATCH"],
        summary="Change title and metadata of a session",
        openapi_extra=request_body(SessionChange),
        responses=answers(200, "The session as it is now.", Session),
        response_class=Response,
    )
    api.add_api_route(
        ONE,
        sessions.delete,
        methods=["DELETE"],
        status_code=204,
        summary="Delete a session and all its turns",
        responses=no_content("It is gone."),
        response_class=Response,
    )
