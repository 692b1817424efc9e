"""What tests of session stores say again and again."""

from __future__ import annotations

from typing import Any

from rayflow.chat import Message
from rayflow.messages import Appended, AppendTurns, GetHistory, History
from rayflow.runtime.ports import SessionStore

NOW_US = 1_790_000_000_000_000


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


async def append(
    store: SessionStore, *messages: Message, session: str = "s", now_us: int = NOW_US, **more: Any
) -> Appended:
    return await store.append(AppendTurns(more.pop("tenant", "t"), session, list(messages), **more), now_us)


async def history(store: SessionStore, session: str = "s", tenant: str = "t", **more: Any) -> History:
    return await store.history(GetHistory(tenant, session, **more))


async def texts(store: SessionStore, **more: Any) -> list[str]:
    return [turn.message.text for turn in (await history(store, **more)).turns]
