"""Users over HTTP: their preferences, what is remembered of them, and their erasure. A request sees the users of its
tenant; another tenant's user of the same name is somebody else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from rayflow.api.body import read_json
from rayflow.api.decode import convert, fault
from rayflow.api.exchange import Exchange
from rayflow.api.headers import safe_id
from rayflow.api.responses import json_response
from rayflow.api.user_shapes import (
    Consolidation,
    Erasure,
    FoundMemories,
    FoundThing,
    MemoryPage,
    MemoryRequest,
    MemorySearch,
    Preferences,
    Removed,
    memory_of,
)
from rayflow.app.client import SystemClient
from rayflow.app.users import Users
from rayflow.errors import Conflict, NotFound
from rayflow.messages import Filter
from rayflow.messages.memory import Kind

T = TypeVar("T", bound=msgspec.Struct)
Limit = Annotated[int, Query(ge=1, le=1000, description="Most of them to return.")]
AnyKind = Annotated[Kind | None, Query(description="Only those of this kind.")]


@dataclass(frozen=True, slots=True)
class UserRoutes:
    client: SystemClient

    async def preferences(self, request: Request, user_id: str) -> Response:
        tenant, user_id = _key(request, user_id)
        return json_response(Preferences(user_id, await self._users.preferences(tenant, user_id)))

    async def prefer(self, request: Request, user_id: str) -> Response:
        tenant, user_id = _key(request, user_id)
        body = await self._json(request)
        if not isinstance(body, dict):
            raise fault("preferences", "must be an object")
        return json_response(Preferences(user_id, await self._users.prefer(tenant, user_id, body)))

    async def clear_preferences(self, request: Request, user_id: str) -> Response:
        await self._users.clear_preferences(*_key(request, user_id))
        return Response(status_code=204)

    async def remember(self, request: Request, user_id: str) -> Response:
        tenant, user_id = _key(request, user_id)
        body = await self._body(request, MemoryRequest)
        if not body.text.strip():
            raise fault("text", "must not be blank")
        memory = await self._users.remember(tenant, user_id, body.text, body.kind, body.importance, body.tags)
        if memory is None:
            raise Conflict("this is remembered already, or something newer about the same is")
        return json_response(memory_of(memory), status=201)

    async def memories(
        self,
        request: Request,
        user_id: str,
        kind: AnyKind = None,
        after: Annotated[str, Query(description="Leave out ids up to this one.")] = "",
        limit: Limit = 100,
    ) -> Response:
        wanted = Filter([] if kind is None else [kind])
        page, more = await self._users.memories(*_key(request, user_id), wanted, after, limit)
        return json_response(MemoryPage([memory_of(memory) for memory in page], page[-1].id if more else None))

    async def search(self, request: Request, user_id: str) -> Response:
        body = await self._body(request, MemorySearch)
        found = await self._users.search(*_key(request, user_id), body.query, body.top_k, body.filter)
        return json_response(FoundMemories([FoundThing(each.score, memory_of(each.memory)) for each in found]))

    async def forget(self, request: Request, user_id: str, memory_id: str) -> Response:
        if not await self._users.forget(*_key(request, user_id), [memory_id]):
            raise NotFound(f"user {user_id} has no memory {memory_id}", kind="memory", id=memory_id)
        return Response(status_code=204)

    async def forget_all(self, request: Request, user_id: str) -> Response:
        return json_response(Removed(await self._users.forget(*_key(request, user_id))))

    async def consolidate(self, request: Request, user_id: str) -> Response:
        done = await self._users.consolidate(*_key(request, user_id))
        return json_response(Consolidation(done.promoted, done.forgotten, done.facts, done.skills))

    async def erase(self, request: Request, user_id: str) -> Response:
        tenant, user_id = _key(request, user_id)
        erased = await self._users.erase(tenant, user_id)
        return json_response(Erasure(user_id, erased.sessions, erased.memories, erased.preferences))

    @property
    def _users(self) -> Users:
        return self.client.users

    async def _json(self, request: Request) -> Any:
        return await read_json(Exchange.of(request).headers, request.receive, self.client.config.security)

    async def _body(self, request: Request, kind: type[T]) -> T:
        return convert(await self._json(request), kind)


def _key(request: Request, user_id: str) -> tuple[str, str]:
    return Exchange.of(request).tenant, safe_id(user_id, "user_id")
