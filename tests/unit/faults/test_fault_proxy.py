from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from faults.proxy import DAMAGE, Damage, FaultProxy

SAID = b"abcdefghijklmnopqrstuvwxyz"


@asynccontextmanager
async def proxied(damage: Damage | None) -> AsyncIterator[tuple[FaultProxy, asyncio.StreamReader]]:
    """The far end says `SAID` and waits for the client to close."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SAID)
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    async with server, FaultProxy(server.sockets[0].getsockname()[1], seed=1) as proxy:
        proxy.damage, proxy.share = damage, 1.0
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        try:
            yield proxy, reader
        finally:
            writer.close()


@pytest.mark.parametrize("damage", [None, Damage.DELAY])
async def test_what_is_not_damaged_arrives_as_it_was_said(damage: Damage | None) -> None:
    async with proxied(damage) as (proxy, reader):
        assert await reader.readexactly(len(SAID)) == SAID
        assert proxy.injected == (damage is not None)


async def test_corrupt_overwrites_bytes_and_keeps_the_length() -> None:
    async with proxied(Damage.CORRUPT) as (_, reader):
        got = await reader.readexactly(len(SAID))
        assert DAMAGE[:1] in got
        assert got != SAID


async def test_half_close_ends_in_good_order_in_the_middle() -> None:
    async with proxied(Damage.HALF_CLOSE) as (_, reader):
        assert await reader.read() == SAID[: len(SAID) // 2]


async def test_reset_breaks_the_connection() -> None:
    async with proxied(Damage.RESET) as (_, reader):
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_drop_says_nothing_and_keeps_the_connection() -> None:
    async with proxied(Damage.DROP) as (proxy, reader):
        silent = asyncio.ensure_future(reader.read(1))
        while not proxy.injected:
            await asyncio.sleep(0)
        assert not silent.done()
        silent.cancel()
        await asyncio.gather(silent, return_exceptions=True)
