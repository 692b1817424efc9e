"""A whole system behind its HTTP service, and whoever runs its batch jobs while a test lets it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
from api_doubles import served

from rayflow.api.http import create_app
from rayflow.app.client import SystemClient
from rayflow.app.system import InProcessSystem
from rayflow.batch.desk import Desk
from rayflow.config.schema import WorkflowConfig

ACME, GLOBEX = "rf_key_of_acme", "rf_key_of_globex"


class House:
    """`url` of the service. Clients made here are closed with it."""

    def __init__(self, client: SystemClient, url: str) -> None:
        self.client = client
        self.url = url
        self.state = Path(client.config.storage.state)
        self._open: list[Any] = []

    def ai(self, key: str) -> openai.AsyncOpenAI:
        ai = openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)
        self._open.append(ai.close)
        return ai

    def http(self, key: str) -> httpx2.AsyncClient:
        http = httpx2.AsyncClient(base_url=self.url, headers={"authorization": f"Bearer {key}"}, timeout=30)
        self._open.append(http.aclose)
        return http

    async def close(self) -> None:
        for close in self._open:
            await close()

    @asynccontextmanager
    async def desk(self) -> AsyncIterator[Desk]:
        desk = Desk(self.client, None)
        running = asyncio.create_task(desk.run())
        try:
            yield desk
        finally:
            desk.stop()
            await running


@asynccontextmanager
async def housed(state: Path, **sections: Any) -> AsyncIterator[House]:
    given = {
        "name": "team",
        "agents": [{"name": "facts"}],
        "storage": {"state": str(state)},
        "tenants": [{"name": "acme", "api_keys": [ACME]}, {"name": "globex", "api_keys": [GLOBEX]}],
        "monitoring": {"event_log": False},
        "batch": {"max_lines": 50, "max_file_bytes": 100_000, "max_stored_bytes": 150_000},
    }
    config = WorkflowConfig.model_validate({**given, **sections})
    async with InProcessSystem(config) as system:
        client = await system.client("ingress")
        async with served(create_app(client)) as url:
            house = House(client, url)
            try:
                yield house
            finally:
                await house.close()
        client.close()
