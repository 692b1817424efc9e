from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from api_doubles import ScriptedClient, config, in_memory

from rayflow.analytics.analyst import Analyst
from rayflow.api.http import create_app
from rayflow.app.build import events_folder


@pytest.fixture
def client() -> ScriptedClient:
    return ScriptedClient(config())


@pytest.fixture
async def http(client: ScriptedClient) -> AsyncIterator[httpx2.AsyncClient]:
    monitoring = client.config.monitoring
    analyst = Analyst(events_folder(client.config), monitoring.sql_sandbox, monitoring.sql_at_once)
    async with in_memory(create_app(client, analyst=analyst)) as http:
        yield http
    await analyst.close()
