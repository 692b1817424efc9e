"""Large messages by reference: who may, what is freed when, and what happens when the store has lost one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from link_doubles import PATIENCE_S, SECRET

from rayflow.cluster.fabric.blobs import BLOB_BYTES
from rayflow.cluster.fabric.sockets import SocketFabric
from rayflow.errors import FabricError
from rayflow.messages import Ack, CancelRun, Endpoint, Ping, Token


class Shelf:
    """A store in this process. `full`: takes nothing more; `held`: hands nothing out before it is set."""

    kind = "shelf"

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}
        self.puts = self.gets = 0
        self.full = False
        self.held = asyncio.Event()
        self.held.set()
        self.asked = asyncio.Event()

    async def put(self, data: bytes) -> bytes:
        if self.full:
            raise FabricError("the shelf is full")
        self.puts += 1
        name = f"{id(self)}-{self.puts}".encode()
        self.kept[name] = data
        return name

    async def get(self, name: bytes) -> bytes:
        self.asked.set()
        await self.held.wait()
        self.gets += 1
        if name not in self.kept:
            raise FabricError("that blob is gone")
        return self.kept[name]

    def free(self, name: bytes) -> None:
        self.kept.pop(name, None)


LARGE = Token("r", 1, "a", ["x" * (BLOB_BYTES + 1)])
SMALL = Token("r", 1, "a", ["x"])


@asynccontextmanager
async def pair(path: Path, near_store: Shelf | None, far_store: Shelf | None) -> AsyncIterator[SocketFabric]:
    """Two fabrics; yields the near one. `far/0` answers a token with the same token."""
    near = SocketFabric(f"unix:{path}/n", SECRET, blobs=near_store)
    far = SocketFabric(f"unix:{path}/m", SECRET, blobs=far_store)
    await near.start()
    await far.start()
    near.directory.put(Endpoint("far/0", far.endpoint))
    far.bind("far/0", {Token: lambda token: token, CancelRun: lambda _: LARGE, Ping: lambda _: Ack()})
    await near.ask("far/0", Ping(), PATIENCE_S)
    try:
        yield near
    finally:
        await asyncio.wait_for(near.close(), PATIENCE_S)
        await asyncio.wait_for(far.close(), PATIENCE_S)


async def settled(fabric: SocketFabric) -> None:
    """Everything said before this was heard."""
    await fabric.ask("far/0", Ping(), PATIENCE_S)
    await fabric.ask("far/0", Ping(), PATIENCE_S)


async def test_a_large_ask_and_its_large_reply_travel_by_reference_and_are_freed(tmp_path: Path) -> None:
    shelf = Shelf()
    async with pair(tmp_path, shelf, shelf) as near:
        assert await near.ask("far/0", LARGE, PATIENCE_S) == LARGE
        await settled(near)
        (stats,) = near.links()
        assert (shelf.puts, shelf.gets, shelf.kept) == (2, 2, {})
        assert stats.bytes_in + stats.bytes_out < 2000, "the connection itself carried next to nothing"


async def test_small_messages_never_do(tmp_path: Path) -> None:
    shelf = Shelf()
    async with pair(tmp_path, shelf, shelf) as near:
        assert await near.ask("far/0", SMALL, PATIENCE_S) == SMALL
    assert shelf.puts == 0


@pytest.mark.parametrize("which", ["near", "far", "kinds"])
async def test_without_a_store_in_common_they_travel_inline(tmp_path: Path, which: str) -> None:
    near_store, far_store = Shelf(), Shelf()
    far_store.kind = "another shelf" if which == "kinds" else far_store.kind
    stores = (None, far_store) if which == "near" else (near_store, None) if which == "far" else (near_store, far_store)
    async with pair(tmp_path, *stores) as near:
        assert await near.ask("far/0", LARGE, PATIENCE_S) == LARGE
    assert near_store.puts == far_store.puts == 0


async def test_a_full_store_means_inline(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf()
    shelf.full = True
    async with pair(tmp_path, shelf, shelf) as near:
        assert await near.ask("far/0", LARGE, PATIENCE_S) == LARGE
    assert "travels inline: the shelf is full" in caplog.text


async def test_what_the_store_has_lost_is_an_error_for_who_asked(tmp_path: Path) -> None:
    near_store, far_store = Shelf(), Shelf()  # they say that they are the same, and are not
    async with pair(tmp_path, near_store, far_store) as near:
        with pytest.raises(FabricError, match="is gone"):
            await near.ask("far/0", LARGE, PATIENCE_S)
        with pytest.raises(FabricError, match="is gone"):
            await near.ask("far/0", CancelRun("a large reply"), PATIENCE_S)
        await settled(near)
    assert near_store.kept == far_store.kept == {}


async def test_small_messages_pass_a_large_one_that_is_still_being_fetched(tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.held.clear()
    async with pair(tmp_path, shelf, shelf) as near:
        asking = asyncio.create_task(near.ask("far/0", LARGE, PATIENCE_S))
        await asyncio.wait_for(shelf.asked.wait(), PATIENCE_S)
        assert await near.ask("far/0", SMALL, PATIENCE_S) == SMALL
        shelf.held.set()
        assert await asking == LARGE


async def test_a_lost_connection_frees_what_was_lent_and_ends_what_was_fetched(tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.held.clear()
    async with pair(tmp_path, shelf, shelf) as near:
        asking = asyncio.create_task(near.ask("far/0", LARGE, PATIENCE_S))
        await asyncio.wait_for(shelf.asked.wait(), PATIENCE_S)
        assert len(shelf.kept) == 1
        (link,) = near._all
        link.abort("cut")
        with pytest.raises(FabricError, match="cut"):
            await asking
    assert shelf.kept == {}
    assert shelf.gets == 0


async def test_an_ask_that_is_given_up_while_its_message_is_fetched_is_not_handled(tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.held.clear()
    async with pair(tmp_path, shelf, shelf) as near:
        asking = asyncio.create_task(near.ask("far/0", LARGE, PATIENCE_S))
        await asyncio.wait_for(shelf.asked.wait(), PATIENCE_S)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await settled(near)
        assert (shelf.gets, shelf.kept) == (0, {})
        shelf.held.set()
        await settled(near)
        assert near.links()[0].serving == shelf.gets == 0
