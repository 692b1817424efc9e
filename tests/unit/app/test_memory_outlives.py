"""Memory as a whole system in one process has it: on disk, encrypted, there again after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from rayflow.app.attach import open_client
from rayflow.app.client import SystemClient
from rayflow.app.context_view import view
from rayflow.chat import Message
from rayflow.ids import new_run_id
from rayflow.messages import RunRequest

WORKFLOW = """\
name: shop
agents: [{name: helper}]
memory: {enabled: true}
session:
  store: sqlite
  shards: 2
  encryption: {key: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}
"""


@asynccontextmanager
async def system(folder: Path) -> AsyncIterator[SystemClient]:
    (folder / "shop.yaml").write_text(WORKFLOW)
    async with open_client(folder / "shop.yaml", state=folder / "state", in_process=True) as client:
        yield client


async def say(client: SystemClient, text: str, session: str, tenant: str = "acme") -> None:
    await client.run(RunRequest(new_run_id(), session, [Message("user", text)], tenant=tenant, user_id="ann"))


async def remembered(client: SystemClient, tenant: str = "acme") -> list[str]:
    return [memory.text async for memory in client.users.every_memory(tenant, "ann")]


async def test_what_was_told_is_known_after_a_restart_and_unreadable_on_disk(tmp_path: Path) -> None:
    async with system(tmp_path) as client:
        for tenant, place in (("acme", "Graz"), ("globex", "Oslo")):
            await say(client, f"I live in {place}, remember that.", "monday", tenant)
            async with asyncio.timeout(20):
                while not await remembered(client, tenant):
                    await asyncio.sleep(0.01)

    async with system(tmp_path) as client:
        await say(client, "Where do I live?", "friday")
        context = (await view(client, "acme", "friday", "Which city is my home?")).context
        [piece] = [p for p in context.pieces if p.inclusion.reason == "memory" and "Graz" in p.message.text]
        assert piece.inclusion.why.startswith("memory mem_")
        exported = [owned async for owned in client.shards.every_record("acme")]
        assert exported and {owned.tenant for owned in exported} == {"acme"}
        assert b"Oslo" not in b"".join(owned.record.value for owned in exported)

        erased = await client.users.erase("acme", "ann")
        assert (erased.sessions, erased.memories > 0) == (2, True)
        assert await remembered(client) == []
        assert any("Oslo" in text for text in await remembered(client, "globex"))

    for file in (tmp_path / "state").rglob("*"):
        if file.is_file() and file.suffix != ".log":
            assert b"live in Oslo" not in file.read_bytes(), file
