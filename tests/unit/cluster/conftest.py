"""A fabric to talk to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from link_doubles import PATIENCE_S, SECRET

from rayflow.cluster.fabric.sockets import SocketFabric
from rayflow.messages import Ping, Pong


@pytest.fixture
async def fabric(tmp_path: Path) -> AsyncIterator[SocketFabric]:
    made = SocketFabric(f"unix:{tmp_path}/f", SECRET)
    await made.start()
    made.bind("echo/0", {Ping: lambda _: Pong("echo/0", 1)})
    yield made
    await asyncio.wait_for(made.close(), PATIENCE_S)
