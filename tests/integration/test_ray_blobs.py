"""Large messages through a real Ray's object store, and names that a hostile peer might send."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rayflow.cluster.fabric.sockets import SocketFabric
from rayflow.errors import FabricError, PeerLost
from rayflow.messages import Endpoint, Ping, Token

SECRET = b"shared"
LARGE = Token("r", 1, "a", ["x" * 3_000_000])
PATIENCE_S = 20.0


class Far:
    """The other process: an actor with a fabric and a store of its own."""

    async def start(self, endpoint: str) -> str:
        from rayflow.cluster.ray_blobs import RayBlobs

        self.blobs = RayBlobs()
        self.fabric = SocketFabric(endpoint, SECRET, blobs=self.blobs)
        await self.fabric.start()
        self.fabric.bind("far/0", {Token: lambda token: token, Ping: lambda _: LARGE})
        return self.blobs.kind

    async def held_bytes(self) -> int:
        return self.blobs.held_bytes

    async def put(self, data: bytes) -> bytes:
        return await self.blobs.put(data)

    async def die(self) -> None:
        os._exit(1)


class Trap:
    """Unpickling it leaves a mark."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The module `ray`, with a local cluster."""
    import ray

    patch = pytest.MonkeyPatch()
    for name in [name for name in os.environ if name.startswith("RAY_AUTH_")]:
        patch.delenv(name)
    patch.setenv("RAY_AUTH_MODE", "disabled")
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        configure_logging=False,
        object_store_memory=100 << 20,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
        _node_ip_address="127.0.0.2",
    )
    yield ray
    ray.shutdown()
    patch.undo()


@pytest.fixture
def far(cluster: Any) -> Iterator[Any]:
    actor = cluster.remote(Far).options(num_cpus=0, max_concurrency=8).remote()
    yield actor
    cluster.kill(actor)


async def test_a_large_message_goes_through_the_object_store_both_ways_and_is_freed(far: Any, tmp_path: Path) -> None:
    from rayflow.cluster.ray_blobs import RayBlobs

    blobs = RayBlobs()
    assert await far.start.remote(f"unix:{tmp_path}/far") == blobs.kind
    near = SocketFabric(f"unix:{tmp_path}/near", SECRET, blobs=blobs)
    await near.start()
    near.directory.put(Endpoint("far/0", f"unix:{tmp_path}/far"))
    try:
        assert await near.ask("far/0", Ping(), PATIENCE_S) == LARGE
        assert await near.ask("far/0", LARGE, PATIENCE_S) == LARGE
        (stats,) = near.links()
        assert stats.bytes_in + stats.bytes_out < 5000
        async with asyncio.timeout(PATIENCE_S):
            while blobs.held_bytes or await far.held_bytes.remote():
                await asyncio.sleep(0.01)
    finally:
        await near.close()


async def test_what_was_freed_is_gone(far: Any, tmp_path: Path) -> None:
    from rayflow.cluster.ray_blobs import RayBlobs

    blobs = RayBlobs()
    await far.start.remote(f"unix:{tmp_path}/far")
    name = await far.put.remote(b"y" * 2_000_000)
    assert await blobs.get(name) == b"y" * 2_000_000
    mine = await blobs.put(b"z" * 2_000_000)
    assert await blobs.get(mine) == b"z" * 2_000_000
    blobs.free(mine)
    blobs.free(mine)
    assert blobs.held_bytes == 0
    name = await far.put.remote(b"y" * 2_000_000)
    far.die.remote()
    with pytest.raises(PeerLost):
        for _ in range(100):  # Ray may serve its copy until it has noticed the death
            await blobs.get(name)
            await asyncio.sleep(0.05)


async def test_a_process_keeps_only_so_much_for_its_peers(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from rayflow.cluster import ray_blobs

    monkeypatch.setattr(ray_blobs, "HELD_BYTES", 3_000_000)
    monkeypatch.setattr(ray_blobs, "HELD_S", 0.05)
    blobs = ray_blobs.RayBlobs()
    await blobs.put(b"x" * 2_000_000)
    with pytest.raises(FabricError, match="wait in the object store already"):
        await blobs.put(b"x" * 2_000_000)
    async with asyncio.timeout(PATIENCE_S):
        while blobs.held_bytes:
            await asyncio.sleep(0.01)


async def test_an_object_that_somebody_pickled_is_refused_and_not_loaded(cluster: Any, tmp_path: Path) -> None:
    from rayflow.cluster.ray_blobs import Name, RayBlobs

    mark = tmp_path / "unpickled"
    ref = cluster.put(Trap(str(mark)))
    owner = cluster._private.worker.global_worker.core_worker.get_owner_address(ref)
    with pytest.raises(FabricError, match="is no blob of ours"):
        await RayBlobs().get(msgspec.msgpack.encode(Name(ref.binary(), owner)))
    assert not mark.exists()


async def test_names_that_make_no_sense_are_refused_and_the_process_lives(cluster: Any) -> None:
    """Ray itself would end the process over some of them."""
    from ray.core.generated.common_pb2 import Address

    from rayflow.cluster.ray_blobs import Name, RayBlobs

    blobs = RayBlobs()
    good = msgspec.msgpack.decode(await blobs.put(b"x" * 2_000_000), type=Name)

    def owner(**changes: object) -> bytes:
        address = Address.FromString(good.owner)
        for name, value in changes.items():
            setattr(address, name, value)
        return address.SerializeToString()

    malformed = [
        b"",
        b"\xc1",
        *(
            msgspec.msgpack.encode(name)
            for name in (
                Name(good.object, b""),
                Name(good.object, b"\xff\xff garbage"),
                Name(good.object, good.owner[:30]),
                Name(b"short", good.owner),
                Name(good.object, owner(node_id=b"x")),
                Name(good.object, owner(worker_id=b"")),
                Name(good.object, owner(ip_address="")),
            )
        ),
    ]
    for name in malformed:
        with pytest.raises(FabricError, match="malformed"):
            await blobs.get(name)
    elsewhere = owner(port=1, worker_id=os.urandom(28))
    for name in (
        Name(os.urandom(28), elsewhere),
        Name(b"\0" * 28, elsewhere),
        Name(b"\xff" * 28, elsewhere),
        Name(os.urandom(28), owner(node_id=os.urandom(28), worker_id=os.urandom(28))),
    ):
        with pytest.raises(PeerLost):
            await blobs.get(msgspec.msgpack.encode(name))
    with suppress(FabricError):
        await blobs.get(msgspec.msgpack.encode(Name(good.object, elsewhere)))
    assert await blobs.get(msgspec.msgpack.encode(good)) == b"x" * 2_000_000
