"""Who may talk to us: the first frames of a connection, with a peer that lies, guesses, replays or says nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from link_doubles import NONCE, PATIENCE_S, SECRET, accept, dialled, established, listening, proof

from rayflow.cluster.fabric import link
from rayflow.cluster.fabric.frames import Ask, Frame, Hello, Item, Open, Proof, Reply, Tell, encode
from rayflow.cluster.fabric.handshake import Handshake
from rayflow.cluster.fabric.sockets import SocketFabric
from rayflow.errors import PeerLost
from rayflow.messages import Directory, Endpoint, Ping, Pong, Token, TokenStream


async def test_a_peer_that_proves_itself_is_served(fabric: SocketFabric) -> None:
    async with dialled(fabric) as peer:
        await peer.prove()
        await peer.next(Proof)
        peer.send(Ask(7, "echo/0", Ping(), 5.0))
        assert await peer.next(Reply) == Reply(7, Pong("echo/0", 1))


async def test_the_listener_proves_nothing_to_who_has_proved_nothing(fabric: SocketFabric) -> None:
    async with dialled(fabric) as peer:
        await peer.next(Hello)
        peer.hello()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(peer.next(Proof), 0.05)


async def test_a_wrong_secret_is_refused(fabric: SocketFabric, caplog: pytest.LogCaptureFixture) -> None:
    async with dialled(fabric) as peer:
        await peer.prove(b"guessed")
        await peer.dropped()
    assert "does not know the cluster secret" in caplog.text


@pytest.mark.parametrize("field", ["role", "nonce", "endpoint"])
async def test_a_proof_for_something_else_is_refused(
    fabric: SocketFabric, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A proof is good for one role, one pair of nonces and one endpoint: not reflected, replayed or passed on."""
    async with dialled(fabric) as peer:
        theirs = (await peer.next(Hello)).nonce
        peer.hello()
        peer.send(
            proof(
                "listen" if field == "role" else "dial",
                NONCE,
                "cd" * 16 if field == "nonce" else theirs,
                "unix:/other" if field == "endpoint" else "unix:/peer",
            )
        )
        await peer.dropped()
    assert "does not know the cluster secret" in caplog.text


async def test_a_whole_handshake_played_again_is_refused(
    fabric: SocketFabric, caplog: pytest.LogCaptureFixture
) -> None:
    recorded: list[Frame] = []
    async with dialled(fabric) as peer:
        hello = await peer.next(Hello)
        recorded = [Hello(hello.version, "unix:/peer", NONCE), proof("dial", NONCE, hello.nonce, "unix:/peer")]
        peer.send(*recorded)
        await peer.next(Proof)
    async with dialled(fabric) as peer:
        peer.send(*recorded)
        await peer.dropped()
    assert "does not know the cluster secret" in caplog.text


async def test_our_own_proof_sent_back_is_refused(fabric: SocketFabric, tmp_path: Path) -> None:
    async with listening(fabric, tmp_path / "far") as came:
        asking = asyncio.create_task(fabric.ask("far/0", Ping(), PATIENCE_S))
        peer = await asyncio.wait_for(came.get(), PATIENCE_S)
        hello = await peer.next(Hello)
        peer.hello(f"unix:{tmp_path}/far", nonce=hello.nonce)
        peer.send(await peer.next(Proof))
        with pytest.raises(PeerLost, match="does not know the cluster secret"):
            await asking


async def test_another_protocol_version_is_refused_with_advice(
    fabric: SocketFabric, caplog: pytest.LogCaptureFixture
) -> None:
    async with dialled(fabric) as peer:
        peer.hello(version=99)
        await peer.dropped()
    assert "run one rayflow version" in caplog.text


@pytest.mark.parametrize(
    "frame",
    [
        Ask(1, "echo/0", Ping(), 5.0),
        Tell("echo/0", Ping()),
        Open(1, "echo/0", TokenStream("r", "a")),
        Item(1, Ping()),
        Proof("00"),
        Hello(2, "", ""),
    ],
)
async def test_anything_before_the_handshake_is_refused(fabric: SocketFabric, frame: Frame) -> None:
    taken: list[object] = []
    fabric.bind("echo/0", {Ping: taken.append}, {TokenStream: lambda opening, _: taken.append(opening)})
    async with dialled(fabric) as peer:
        peer.send(frame)
        await peer.dropped()
    assert not taken


async def test_a_second_hello_is_refused(fabric: SocketFabric) -> None:
    async with dialled(fabric) as peer:
        peer.hello()
        peer.hello()
        await peer.dropped()


async def test_a_silent_peer_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "HANDSHAKE_S", 0.01)
    fabric = SocketFabric(f"unix:{tmp_path}/f", SECRET)
    await fabric.start()
    async with dialled(fabric) as peer:
        await peer.dropped()
    async with listening(fabric, tmp_path / "far"):
        with pytest.raises(PeerLost, match="no handshake"):
            await fabric.ask("far/0", Ping(), PATIENCE_S)
    await fabric.close()


async def test_a_message_that_arrives_with_the_handshakes_end_is_taken(fabric: SocketFabric, tmp_path: Path) -> None:
    path, texts = tmp_path / "far", asyncio.Queue[str]()
    fabric.bind("client/0", {Token: lambda token: texts.put_nowait(token.text)})
    async with listening(fabric, path) as came:
        fabric.tell("far/0", Ping())
        peer = await asyncio.wait_for(came.get(), PATIENCE_S)
        hello = await peer.next(Hello)
        peer.hello(f"unix:{path}")
        await peer.next(Proof)
        token = Tell("client/0", Token("r", 1, "a", ["x" * 5000]))
        peer.send(proof("listen", NONCE, hello.nonce, f"unix:{path}"), token)
        assert await asyncio.wait_for(texts.get(), PATIENCE_S) == "x" * 5000


@pytest.mark.parametrize("greeting", [b"garbage", encode(Hello(99, "", ""))])
async def test_a_peer_that_could_not_be_greeted_is_dialled_anew(
    fabric: SocketFabric, tmp_path: Path, greeting: bytes
) -> None:
    path = tmp_path / "far"
    async with listening(fabric, path) as came:
        asking = asyncio.create_task(fabric.ask("far/0", Ping(), PATIENCE_S))
        first = await asyncio.wait_for(came.get(), PATIENCE_S)
        first.writer.write(greeting)
        with pytest.raises(PeerLost):
            await asking
        asking = asyncio.create_task(fabric.ask("far/0", Ping(), PATIENCE_S))
        peer = await asyncio.wait_for(accept(came, path), PATIENCE_S)
        question = await peer.next(Ask)
        peer.send(Reply(question.id, Pong("far/0", 2)))
        assert await asking == Pong("far/0", 2)


async def test_who_answers_in_place_of_the_one_that_was_dialled_is_refused(
    fabric: SocketFabric, tmp_path: Path
) -> None:
    """A port may have gone to another process since the directory was written."""
    async with listening(fabric, tmp_path / "far") as came:
        asking = asyncio.create_task(fabric.ask("far/0", Ping(), PATIENCE_S))
        peer = await asyncio.wait_for(came.get(), PATIENCE_S)
        peer.hello("unix:/somebody/else")
        with pytest.raises(PeerLost, match="unix:/somebody/else listens where"):
            await asking


async def test_who_was_declared_dead_is_refused_until_the_directory_names_it_again(fabric: SocketFabric) -> None:
    fabric.directory.update(Directory(1, [], ["unix:/peer"]))
    async with dialled(fabric) as peer:
        peer.hello()
        await peer.dropped()
    fabric.directory.update(Directory(2, [Endpoint("peer/0", "unix:/peer")], ["unix:/peer"]))
    async with dialled(fabric) as peer:
        await peer.prove()
        await peer.next(Proof)


async def test_declaring_a_peer_dead_ends_its_connections_and_what_waits_for_it(
    fabric: SocketFabric, tmp_path: Path
) -> None:
    path = tmp_path / "far"
    async with listening(fabric, path) as came:
        asking = asyncio.create_task(fabric.ask("far/0", Ping(), PATIENCE_S))
        peer = await accept(came, path)
        await peer.next(Ask)
        async with dialled(fabric) as other:
            await other.prove(own=f"unix:{path}")
            await other.next(Proof)
            fabric.directory.update(Directory(1, [], [f"unix:{path}"]))
            with pytest.raises(PeerLost, match="declared dead"):
                await asking
            await peer.dropped()
            await other.dropped()


async def test_an_endpoint_that_only_left_the_directory_keeps_its_connections(
    fabric: SocketFabric, tmp_path: Path
) -> None:
    """A process that is being replaced still finishes what it has in flight."""
    path = tmp_path / "far"
    async with listening(fabric, path) as came:
        asking = asyncio.create_task(fabric.ask("far/0", Ping(), PATIENCE_S))
        peer = await accept(came, path)
        question = await peer.next(Ask)
        fabric.directory.update(Directory(1, [Endpoint("far/0", "unix:/new", 2)]))
        peer.send(Reply(question.id, Pong("far/0", 1)))
        assert await asking == Pong("far/0", 1)


async def test_a_peer_that_connects_and_vanishes_leaves_nothing_behind(fabric: SocketFabric) -> None:
    async with dialled(fabric) as peer:
        await peer.next(Hello)
    while fabric._all:
        await asyncio.sleep(0)
    assert fabric.links() == []


async def test_a_dial_that_answers_after_it_was_given_up_is_not_used(fabric: SocketFabric) -> None:
    handshake = Handshake("dial", "unix:/own", SECRET, lambda _: False)
    late = link.Link(handshake, fabric._mailroom, None, lambda _: None, lambda _: None)
    late.lose("no handshake in time")

    class Transport(asyncio.Transport):
        aborted = False

        def abort(self) -> None:
            self.aborted = True

        def write(self, data: object) -> None:
            raise AssertionError("nothing is said to a peer that was given up")

    transport = Transport()
    late.connection_made(transport)
    assert transport.aborted


async def test_both_sides_may_dial_at_once(tmp_path: Path) -> None:
    near, far = SocketFabric(f"unix:{tmp_path}/n", SECRET), SocketFabric(f"unix:{tmp_path}/m", SECRET)
    for fabric, name, other, at in ((near, "near/0", "far/0", far), (far, "far/0", "near/0", near)):
        await fabric.start()
        fabric.bind(name, {Ping: lambda _, name=name: Pong(name, 0)})
        fabric.directory.put(Endpoint(other, at.endpoint))
    pongs = await asyncio.gather(near.ask("far/0", Ping(), 5), far.ask("near/0", Ping(), 5))
    assert [pong.address for pong in pongs] == ["far/0", "near/0"]
    await established(near, far.endpoint)
    await near.close()
    await far.close()
