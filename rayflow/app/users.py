"""What is known of a user beyond sessions: memories and preferences; and the end of all that, erasure."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from rayflow.app.shards import Shards
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import Conflict, NotFound
from rayflow.ids import new_memory_id
from rayflow.messages import (
    Consolidate,
    Consolidated,
    EraseRecords,
    Filter,
    Forget,
    Found,
    ListMemories,
    Memory,
    ReadRecords,
    Recall,
    RecordWrite,
    Remember,
    WriteRecords,
)
from rayflow.messages.memory import Kind
from rayflow.messages.records import of_user
from rayflow.policies.preferences import PREFERENCES, bytes_of, changed, preferences_of

MEMORY = "memory"
PAGE = 100
BY_HAND = 0.8
"""What somebody takes the trouble to add is important, unless they say how much."""
ALL = Filter()
TRIES = 5


class ErasedUser(NamedTuple):
    """How many of each were deleted."""

    sessions: int
    memories: int
    preferences: int


class Users:
    """The users of all tenants. All methods raise what `Shards` raises."""

    def __init__(self, shards: Shards, config: WorkflowConfig) -> None:
        self._shards = shards
        self._config = config

    # --- preferences ---

    async def preferences(self, tenant: str, user_id: str) -> dict[str, Any]:
        return (await self._preferences(tenant, user_id))[0]

    async def prefer(self, tenant: str, user_id: str, change: Mapping[str, Any]) -> dict[str, Any]:
        """Change them key by key, null removes one; what they are now. Raises `ValidationError` for too many."""
        for tried in range(1, TRIES + 1):
            known, version = await self._preferences(tenant, user_id)
            after = changed(known, change)
            write = RecordWrite(PREFERENCES, PREFERENCES, bytes_of(after) if after else None, version)
            try:
                await self._shards.records(WriteRecords(tenant, of_user(user_id), [write]))
            except Conflict:
                if tried == TRIES:
                    raise
            else:
                return after
        raise AssertionError("the last try returns or raises")

    async def clear_preferences(self, tenant: str, user_id: str) -> int:
        """Returns how many there were."""
        known = await self.preferences(tenant, user_id)
        await self._shards.records(EraseRecords(tenant, of_user(user_id), PREFERENCES))
        return len(known)

    async def _preferences(self, tenant: str, user_id: str) -> tuple[dict[str, Any], int]:
        read = ReadRecords(tenant, of_user(user_id), PREFERENCES, [PREFERENCES])
        records = (await self._shards.records(read)).records
        return (preferences_of(records[0].value), records[0].version) if records else ({}, 0)

    # --- memories ---

    async def memories(
        self, tenant: str, user_id: str, wanted: Filter = ALL, after: str = "", limit: int = PAGE
    ) -> tuple[Sequence[Memory], bool]:
        """A page in the order of ids, and whether there are more."""
        page = await self._shards.memory(
            ListMemories(tenant, user_id, self._workflow, wanted, after=after, limit=limit)
        )
        return page.memories, page.more

    async def every_memory(self, tenant: str, user_id: str, wanted: Filter = ALL) -> AsyncGenerator[Memory, None]:
        """All of them, page after page."""
        after, more = "", True
        while more:
            page, more = await self.memories(tenant, user_id, wanted, after)
            for memory in page:
                yield memory
            after = page[-1].id if page else ""

    async def remember(
        self,
        tenant: str,
        user_id: str,
        text: str,
        kind: Kind = "long_term",
        importance: float | None = None,
        tags: Sequence[str] = (),
    ) -> Memory | None:
        """Remember a text that is no turn's. None where it is known already, or a newer fact about the same is."""
        from rayflow.policies.memory import statement, subject
        from rayflow.policies.memory import tags as tags_of

        text = " ".join(text.split())
        said = statement(text)
        if importance is None:
            importance = max(BY_HAND, said.importance if said is not None else 0.0)
        memory = Memory(
            new_memory_id(), kind, text, importance, "" if kind == "episodic" else subject(text),
            list(tags) or tags_of(text),
        )  # fmt: skip
        done = await self._shards.memory(Remember(tenant, user_id, self._workflow, [memory]))
        if not done.added:
            return None
        listed = ListMemories(tenant, user_id, self._workflow, after=memory.id[:-1], limit=PAGE)
        stored = [each for each in (await self._shards.memory(listed)).memories if each.id == memory.id]
        return stored[0] if stored else memory

    async def search(
        self, tenant: str, user_id: str, query: str, top_k: int | None = None, wanted: Filter = ALL
    ) -> list[Found]:
        """What has most to do with `query`, best first. Nothing counts as used."""
        top_k = self._config.memory.top_k if top_k is None else top_k
        return (await self._shards.memory(Recall(tenant, user_id, self._workflow, query, top_k, wanted))).found

    async def forget(self, tenant: str, user_id: str, ids: Sequence[str] | None = None) -> int:
        """Forget these, or everything. Returns how many."""
        forget = Forget(tenant, user_id, self._workflow, None if ids is None else list(ids))
        return (await self._shards.memory(forget)).memories

    async def consolidate(self, tenant: str, user_id: str) -> Consolidated:
        return await self._shards.memory(Consolidate(tenant, user_id, self._workflow))

    @property
    def _workflow(self) -> str:
        if not self._config.memory.enabled:
            raise NotFound(
                "memory is off: set memory.enabled in the workflow file and restart",
                kind="memory",
                key="memory.enabled",
            )
        return self._config.name

    # --- the end ---

    async def erase(self, tenant: str, user_id: str) -> ErasedUser:
        """Delete all sessions, memories (of all workflows), preferences and what else is kept of a user. Asking again
        is fine."""
        memories, preferences = await self._count(tenant, user_id), len(await self.preferences(tenant, user_id))
        return ErasedUser(await self._shards.erase(tenant, user_id), memories, preferences)

    async def _count(self, tenant: str, user_id: str) -> int:
        """Memories, of all workflows."""
        count, read, more = 0, ReadRecords(tenant, of_user(user_id), MEMORY), True
        while more:
            page = await self._shards.records(read)
            count, more = count + len(page.records), page.more
            read = replace(read, after=page.records[-1].name if page.records else "")
        return count
