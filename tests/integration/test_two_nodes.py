"""A system over two nodes of a Ray cluster: it spreads, its messages cross by TCP, and a killed node's actors come
back on the other one."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from rayflow.app.client import SystemClient
from rayflow.app.state import owned
from rayflow.app.system import RaySystem
from rayflow.chat import Message
from rayflow.cluster.ray_cluster import HEALTH_CHECK
from rayflow.config.load import from_dict
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import WorkflowError
from rayflow.ids import new_run_id
from rayflow.messages import GetHistory, GetLinks, GetStatus, History, Links, RunRequest, RunResult, Status
from rayflow.runtime.roster import COORDINATOR, node_address

HEALED_S = 8.0


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    for name, value in HEALTH_CHECK.items():
        monkeypatch.setenv(f"RAY_health_check_{name}", str(value))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
    try:
        yield cluster
    finally:
        cluster.shutdown()


def workflow(state: Path) -> WorkflowConfig:
    return from_dict(
        {
            "name": "w",
            "agents": [{"name": "one", "replicas": {"min": 2, "max": 2}}, {"name": "two", "replicas": {"min": 2}}],
            "processing": {"routers": 2},
            "storage": {"state": str(state)},
        }
    )


async def status(system: RaySystem) -> Status:
    answer: Status = await system.fabric.ask(COORDINATOR, GetStatus(), 5)
    return answer


class Conversations:
    """Turns that follow each other in many sessions, and which of them were acknowledged."""

    def __init__(self, client: SystemClient) -> None:
        self._client = client
        self.acknowledged: dict[str, list[str]] = {}
        self.failed: Counter[str] = Counter()

    async def run(self, session: str, until: asyncio.Event) -> None:
        turn = 0
        while not until.is_set():
            turn += 1
            text = f"turn {turn} of {session}"
            request = RunRequest(new_run_id(), session, [Message("user", text)], client=self._client.address)
            try:
                await self._ask(request, streamed=turn % 2 == 0)
                self.acknowledged.setdefault(session, []).append(text)
            except WorkflowError as error:
                self.failed[error.slug] += 1
            await asyncio.sleep(0.1)

    async def _ask(self, request: RunRequest, streamed: bool) -> None:
        if not streamed:
            await self._client.run(request)
            return
        whole = RunRequest(request.run_id, request.session_id, request.messages, client=request.client, stream=True)
        async for item in self._client.stream(whole):
            if isinstance(item, RunResult):
                return

    async def kept(self, session: str) -> list[str]:
        history: History = await self._client.session(GetHistory("", session, limit=10_000))
        return [turn.message.text for turn in history.turns if turn.message.role == "user"]


@pytest.mark.timeout(180)
async def test_a_killed_nodes_actors_come_back_on_the_other_one(cluster: Cluster, tmp_path: Path) -> None:
    away = cluster.add_node(num_cpus=4)
    cluster.wait_for_nodes()
    with owned(tmp_path) as mine:
        async with RaySystem(workflow(tmp_path), mine.run_dir, cluster.address) as system:
            nodes = {actor.node for actor in system.status.actors if actor.role == "agent"}
            assert len(nodes) == 2, "the system spreads"
            client = await system.client("test")
            talk, over = Conversations(client), asyncio.Event()
            running = [asyncio.create_task(talk.run(f"sess_{i}", over)) for i in range(10)]
            await asyncio.sleep(2)
            links: Links = await system.fabric.ask(node_address("router/0", 1), GetLinks(), 5)
            assert any(link.frames_in for link in links.links)

            cluster.remove_node(away, allow_graceful=False)
            killed = time.monotonic()
            lost = {actor.address for actor in system.status.actors if actor.node == away.node_id}
            async with asyncio.timeout(60):
                while True:
                    now = await status(system)
                    moved = {a.address for a in now.actors if a.state == "ready" and a.node != away.node_id}
                    if now.state == "ready" and lost <= moved:
                        break
                    await asyncio.sleep(0.05)
            healed_s = time.monotonic() - killed
            await asyncio.sleep(1)
            over.set()
            await asyncio.gather(*running)
            for session, texts in talk.acknowledged.items():
                kept = await talk.kept(session)
                assert [text for text in kept if text in texts] == texts
            assert talk.failed.keys() <= {"peer-lost"}, talk.failed
            assert healed_s <= HEALED_S
