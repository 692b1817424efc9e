"""The memory store is bounded."""

from __future__ import annotations

import pytest

from rayflow.chat import Message
from rayflow.errors import NotFound
from rayflow.messages import AppendTurns, GetSession
from rayflow.stores.memory import MemoryStore


async def test_the_session_not_written_for_longest_is_dropped() -> None:
    store = MemoryStore(limit=2)
    for session in ("a", "b", "a", "c"):
        await store.append(AppendTurns("", session, [Message("user", "x")]), 1)
    with pytest.raises(NotFound):
        await store.get(GetSession("", "b"))
    assert (await store.get(GetSession("", "a"))).turns == 2
    assert (await store.get(GetSession("", "c"))).turns == 1
