"""The routes of users."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.responses import Response

from rayflow.api.openapi import DocumentedApi, Responses, Schema, answers, no_content, request_body
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
from rayflow.api.users import UserRoutes

ONE = "/users/{user_id}"
PREFERENCES = f"{ONE}/preferences"
MEMORIES = f"{ONE}/memories"
ANY_OBJECT: Schema = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
}


def add_user_routes(api: DocumentedApi, users: UserRoutes) -> None:
    def add(
        method: str,
        path: str,
        handler: Callable[..., Awaitable[Response]],
        summary: str,
        responses: Responses,
        body: Schema | None = None,
    ) -> None:
        status = int(next(iter(responses)))
        api.add_api_route(
            path,
            handler,
            methods=[method],
            status_code=status,
            summary=summary,
            openapi_extra=body,
            responses=responses,
            response_class=Response,
        )

    preferences = answers(200, "The preferences.", Preferences)
    add("GET", PREFERENCES, users.preferences, "What a user prefers", preferences)
    add("PATCH", PREFERENCES, users.prefer, "Change preferences key by key; null removes one", preferences, ANY_OBJECT)
    add("DELETE", PREFERENCES, users.clear_preferences, "Forget all preferences", no_content("They are gone."))
    add("GET", MEMORIES, users.memories, "What is remembered of a user", answers(200, "A page.", MemoryPage))
    add(
        "POST",
        MEMORIES,
        users.remember,
        "Remember something",
        answers(201, "The memory.", RememberedThing),
        request_body(MemoryRequest),
    )
    add("DELETE", MEMORIES, users.forget_all, "Forget everything", answers(200, "So many.", Removed))
    add(
        "POST",
        f"{MEMORIES}/search",
        users.search,
        "Memories that have to do with a text, the best first",
        answers(200, "What was found.", FoundMemories),
        request_body(MemorySearch),
    )
    add(
        "POST",
        f"{MEMORIES}/consolidate",
        users.consolidate,
        "Promote, forget and join memories now",
        answers(200, "What has changed.", Consolidation),
    )
    add("DELETE", f"{MEMORIES}/{{memory_id}}", users.forget, "Forget one thing", no_content("It is gone."))
    add(
        "DELETE",
        ONE,
        users.erase,
        "Erase a user: delete all their sessions, memories and preferences",
        answers(200, "What was erased.", Erasure),
    )
