"""The routes of users."""

from __future__ import annotations

from rayflow.api.openapi import DocumentedApi, Schema, answers, no_content, request_body
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
    preferences = answers(200, "The preferences.", Preferences)
    api.route("GET", PREFERENCES, users.preferences, "What a user prefers", preferences)
    api.route(
        "PATCH", PREFERENCES, users.prefer, "Change preferences key by key; null removes one", preferences, ANY_OBJECT
    )
    api.route("DELETE", PREFERENCES, users.clear_preferences, "Forget all preferences", no_content("They are gone."))
    api.route("GET", MEMORIES, users.memories, "What is remembered of a user", answers(200, "A page.", MemoryPage))
    api.route(
        "POST",
        MEMORIES,
        users.remember,
        "Remember something",
        answers(201, "The memory.", RememberedThing),
        request_body(MemoryRequest),
    )
    api.route("DELETE", MEMORIES, users.forget_all, "Forget everything", answers(200, "So many.", Removed))
    api.route(
        "POST",
        f"{MEMORIES}/search",
        users.search,
        "Memories that have to do with a text, the best first",
        answers(200, "What was found.", FoundMemories),
        request_body(MemorySearch),
    )
    api.route(
        "POST",
        f"{MEMORIES}/consolidate",
        users.consolidate,
        "Promote, forget and join memories now",
        answers(200, "What has changed.", Consolidation),
    )
    api.route("DELETE", f"{MEMORIES}/{{memory_id}}", users.forget, "Forget one thing", no_content("It is gone."))
    api.route(
        "DELETE",
        ONE,
        users.erase,
        "Erase a user: delete all their sessions, memories and preferences",
        answers(200, "What was erased.", Erasure),
    )
