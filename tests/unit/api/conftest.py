from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from api_doubles import ScriptedClient, config, in_memory

from rayflow.api.http import create_app


@pytest.fixture
def client() -> ScriptedClient:
    return ScriptedClient(config())


@pytest.fixture
async def http(client: ScriptedClient) -> AsyncIterator[httpx2.AsyncClient]:
    async with in_memory(create_app(client)) as http:
        yield http
