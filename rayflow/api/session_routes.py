"""The routes of sessions."""

from __future__ import annotations

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
    session = answers(200, "The session.", Session)
    new = answers(201, "The new session.", Session)
    api.route("POST", "/sessions", sessions.create, "Make a session", new, request_body(SessionRequest, required=False))
    api.route(
        "GET",
        "/sessions",
        sessions.list,
        "All sessions, or those of a user, the newest first",
        answers(200, "A page of sessions.", SessionPage),
    )
    api.route(
        "GET",
        f"{ONE}/history",
        sessions.history,
        "The turns of a session, oldest first",
        answers(200, "A page of turns.", SessionHistory),
    )
    api.route(
        "POST",
        f"{ONE}/fork",
        sessions.fork,
        "Begin another session with the first turns of this one",
        new,
        request_body(ForkRequest, required=False),
    )
    api.route(
        "POST",
        f"{ONE}/lock",
        sessions.lock,
        "Keep runs of others from beginning in a session, or renew that",
        answers(200, "The lock.", Lock),
        request_body(LockRequest, required=False),
    )
    api.route(
        "DELETE",
        f"{ONE}/lock",
        sessions.unlock,
        "Give a lock back; its token is in X-Session-Lock",
        no_content("It is given back."),
    )
    api.route("POST", f"{ONE}/close", sessions.close, "Take no more turns; everything stays readable", session)
    api.route("GET", ONE, sessions.get, "One session", session)
    api.route(
        "PATCH",
        ONE,
        sessions.update,
        "Change title and metadata of a session",
        answers(200, "The session as it is now.", Session),
        request_body(SessionChange),
    )
    api.route("DELETE", ONE, sessions.delete, "Delete a session and all its turns", no_content("It is gone."))
