"""A connection between two processes, one of which may be hostile, silent, slow or gone."""

from __future__ import annotations

import asyncio
import hmac
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from rayflow.cluster.fabric import link
from rayflow.cluster.fabric.frames import PROTOCOL_VERSION, Frame, Kind, Splitter, encode
from rayflow.cluster.fabric.sockets import SocketFabric, private_folder
from rayflow.errors import DeadlineExceeded, FrameInvalid, PeerLost
from rayflow.messages import Ack, CancelRun, Endpoint, EventBatch, Ping, Pong, Token

SECRET = b"a secret that all processes share"
PATIENCE_S = 5.0


class Peer:
    """The other end, by hand: frames in and out of a plain socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._splitter = Splitter()
        self._frames: list[Frame] = []

    async def next(self) -> Frame:
        while not self._frames:
            data = await asyncio.wait_for(self.reader.read(65536), PATIENCE_S)
            if not data:
                raise EOFError
            self._frames += self._splitter.feed(data)
        return self._frames.pop(0)

    def send(self, *frames: Frame) -> None:
        self.writer.write(b"".join(map(encode, frames)))

    def hello(self, nonce: str = "ab" * 16, own: str = "unix:/peer", version: str = str(PROTOCOL_VERSION)) -> None:
        self.send(Frame(Kind.HELLO, text=(version, own, nonce)))

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    async def dropped(self) -> None:
        """Wait until the other side ends the connection."""
        with suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE_S):
                while await self.reader.read(65536):
                    pass

    async def prove(self, secret: bytes = SECRET, own: str = "unix:/peer") -> None:
        """The dialler's side of the handshake."""
        hello = await self.next()
        self.hello(own=own)
        self.send(proof("dial", "ab" * 16, hello.text[2], own, secret))


def proof(role: str, own_nonce: str, other_nonce: str, endpoint: str, secret: bytes = SECRET) -> Frame:
    text = "\n".join(("rayflow", role, own_nonce, other_nonce, endpoint)).encode()
    return Frame(Kind.PROOF, text=(hmac.digest(secret, text, "sha256").hex(),))


@pytest.fixture
async def fabric(tmp_path: Path) -> AsyncIterator[SocketFabric]:
    made = SocketFabric(f"unix:{tmp_path}/f", SECRET)
    await made.start()
    made.bind("echo/0", {Ping: lambda _: Pong("echo/0", 1)})
    yield made
    await asyncio.wait_for(made.close(), PATIENCE_S)


@asynccontextmanager
async def dialled(fabric: SocketFabric) -> AsyncIterator[Peer]:
    """We dial the fabric."""
    peer = Peer(*await asyncio.open_unix_connection(fabric.endpoint.removeprefix("unix:")))
    try:
        yield peer
    finally:
        await peer.close()


@asynccontextmanager
async def listening(fabric: SocketFabric, path: Path) -> AsyncIterator[asyncio.Queue[Peer]]:
    """The fabric dials us, to reach `far/0`. Yields who comes."""
    came: asyncio.Queue[Peer] = asyncio.Queue()
    peers: list[Peer] = []

    def arrive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(Peer(reader, writer))
        came.put_nowait(peers[-1])

    server = await asyncio.start_unix_server(arrive, path)
    fabric.directory.put(Endpoint("far/0", f"unix:{path}"))
    try:
        yield came
    finally:
        server.close()
        for peer in peers:
            await peer.close()


async def accept(came: asyncio.Queue[Peer], path: Path) -> Peer:
    """The listener's side of the handshake, done well."""
    peer = await asyncio.wait_for(came.get(), PATIENCE_S)
    hello = await peer.next()
    peer.hello(own=f"unix:{path}")
    await peer.next()
    peer.send(proof("listen", "ab" * 16, hello.text[2], f"unix:{path}"))
    return peer


async def test_a_peer_that_proves_itself_is_served(fabric: SocketFabric) -> None:
    async with dialled(fabric) as peer:
        await peer.prove()
        assert (await peer.next()).kind == Kind.PROOF
        peer.send(Frame(Kind.ASK, 7, "echo/0", Ping(), 5.0))  # type: ignore[arg-type]
        assert await peer.next() == Frame(Kind.REPLY, 7, body=Pong("echo/0", 1))  # type: ignore[arg-type]


async def test_the_listener_proves_nothing_to_who_has_proved_nothing(fabric: SocketFabric) -> None:
    async with dialled(fabric) as peer:
        assert (await peer.next()).kind == Kind.HELLO
        peer.hello()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(peer.next(), 0.05)


async def test_a_wrong_secret_is_refused(fabric: SocketFabric, caplog: pytest.LogCaptureFixture) -> None:
    async with dialled(fabric) as peer:
        await peer.prove(b"guessed")
        await peer.dropped()
    assert "does not know the cluster secret" in caplog.text


@pytest.mark.parametrize("field", ["role", "nonce", "endpoint"])
async def test_a_proof_for_something_else_is_refused(fabric: SocketFabric, field: str) -> None:
    """A proof is good for one role, one pair of nonces and one endpoint: not reflected, replayed or passed on."""
    async with dialled(fabric) as peer:
        theirs = (await peer.next()).text[2]
        peer.hello()
        peer.send(
            proof(
                "listen" if field == "role" else "dial",
                "ab" * 16,
                "cd" * 16 if field == "nonce" else theirs,
                "unix:/other" if field == "endpoint" else "unix:/peer",
            )
        )
        await peer.dropped()


async def test_our_own_proof_sent_back_is_refused(fabric: SocketFabric, tmp_path: Path) -> None:
    async with listening(fabric, tmp_path / "far") as came:
        asking = asyncio.create_task(fabric.ask("far/0", Ping(), PATIENCE_S))
        peer = await asyncio.wait_for(came.get(), PATIENCE_S)
        hello = await peer.next()
        peer.hello(nonce=hello.text[2], own=f"unix:{tmp_path}/far")
        peer.send(await peer.next())
        with pytest.raises(PeerLost, match="does not know the cluster secret"):
            await asking


async def test_another_protocol_version_is_refused_with_advice(
    fabric: SocketFabric, caplog: pytest.LogCaptureFixture
) -> None:
    async with dialled(fabric) as peer:
        peer.hello(version="99")
        await peer.dropped()
    assert "run one rayflow version" in caplog.text


@pytest.mark.parametrize(
    "frame",
    [
        Frame(Kind.ASK, 1, "echo/0", Ping(), 5.0),  # type: ignore[arg-type]
        Frame(Kind.TELL, 0, "echo/0", Ping()),  # type: ignore[arg-type]
        Frame(Kind.PROOF, text=("00",)),
        Frame(Kind.HELLO),
        Frame(99),
    ],
)
async def test_anything_before_the_handshake_is_refused(fabric: SocketFabric, frame: Frame) -> None:
    taken: list[object] = []
    fabric.bind("echo/0", {Ping: lambda message: taken.append(message)})
    async with dialled(fabric) as peer:
        peer.send(frame)
        await peer.dropped()
    assert not taken


async def test_a_second_hello_is_refused(fabric: SocketFabric) -> None:
    async with dialled(fabric) as peer:
        peer.hello()
        peer.hello()
        await peer.dropped()


@pytest.mark.parametrize("frame", [Frame(Kind.HELLO, text=("1", "x", "y")), Frame(Kind.ASK, 1, "echo/0"), Frame(42)])
async def test_a_frame_that_makes_no_sense_later_ends_the_connection(fabric: SocketFabric, frame: Frame) -> None:
    async with dialled(fabric) as peer:
        await peer.prove()
        peer.send(frame)
        await peer.dropped()


@pytest.mark.parametrize("data", [struct.pack(">I", 2000), b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x01\xc1"])
async def test_bytes_of_another_protocol_and_large_hellos_are_refused(fabric: SocketFabric, data: bytes) -> None:
    async with dialled(fabric) as peer:
        peer.writer.write(data)
        await peer.dropped()


async def test_an_oversized_frame_ends_the_connection(fabric: SocketFabric) -> None:
    async with dialled(fabric) as peer:
        await peer.prove()
        await peer.next()
        peer.writer.write(b"\xff\xff\xff\xff")
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
        hello = await peer.next()
        peer.hello(own=f"unix:{path}")
        await peer.next()
        token = Frame(Kind.TELL, 0, "client/0", Token("r", 1, "a", ["x" * 5000]))  # type: ignore[arg-type]
        peer.send(proof("listen", "ab" * 16, hello.text[2], f"unix:{path}"), token)
        assert await asyncio.wait_for(texts.get(), PATIENCE_S) == "x" * 5000


@pytest.mark.parametrize("greeting", [b"garbage", encode(Frame(Kind.HELLO, text=("99", "", "")))])
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
        question = await peer.next()
        peer.send(Frame(Kind.REPLY, question.id, body=Pong("far/0", 2)))  # type: ignore[arg-type]
        assert await asking == Pong("far/0", 2)


async def test_a_dial_that_answers_after_it_was_given_up_is_not_used(fabric: SocketFabric, tmp_path: Path) -> None:
    late = link.Link("dial", "unix:/own", SECRET, fabric._mailroom, lambda _: None, lambda _: None)
    late.lose("no handshake in time")

    class Transport(asyncio.Transport):
        aborted = False

        def abort(self) -> None:
            self.aborted = True

        def write(self, data: Any) -> None:
            raise AssertionError("nothing is said to a peer that was given up")

    transport = Transport()
    late.connection_made(transport)
    assert transport.aborted


async def test_when_a_peer_closes_pending_asks_fail_and_the_next_one_dials(
    fabric: SocketFabric, tmp_path: Path
) -> None:
    path, lost = tmp_path / "far", asyncio.Queue[str]()
    fabric.on_lost(lost.put_nowait)
    async with listening(fabric, path) as came:
        for _ in range(2):
            asking = asyncio.create_task(fabric.ask("far/0", Ping(), PATIENCE_S))
            peer = await accept(came, path)
            await peer.next()
            peer.writer.close()
            with pytest.raises(PeerLost):
                await asking
            assert await asyncio.wait_for(lost.get(), PATIENCE_S) == f"unix:{path}"


async def test_a_peer_that_only_stops_sending_counts_as_gone(fabric: SocketFabric, tmp_path: Path) -> None:
    path = tmp_path / "far"
    async with listening(fabric, path) as came:
        asking = asyncio.create_task(fabric.ask("far/0", Ping(), PATIENCE_S))
        peer = await accept(came, path)
        await peer.next()
        peer.writer.write_eof()
        with pytest.raises(PeerLost):
            await asking


async def test_a_slow_reader_is_dropped_rather_than_memory_filled(
    fabric: SocketFabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "MAX_UNSENT_BYTES", 1 << 20)
    path, lost = tmp_path / "far", asyncio.Event()
    fabric.on_lost(lambda _: lost.set())
    async with listening(fabric, path) as came:
        fabric.tell("far/0", Ping())
        await accept(came, path)
        for i in range(1000):
            if lost.is_set():
                break
            fabric.tell("far/0", Token("r", i, "a", ["x" * 65536]))
            await asyncio.sleep(0)
        assert lost.is_set()


async def test_an_ask_keeps_its_deadline_while_the_peer_does_not_read(fabric: SocketFabric, tmp_path: Path) -> None:
    path = tmp_path / "far"
    async with listening(fabric, path) as came:
        fabric.tell("far/0", Ping())
        await accept(came, path)
        ours = fabric._links[f"unix:{path}"]
        for i in range(40):
            fabric.tell("far/0", Token("r", i, "a", ["x" * 65536]))
            await asyncio.sleep(0)
        assert ours._writable is not None, "the peer does not read"
        with pytest.raises(DeadlineExceeded):
            await asyncio.wait_for(fabric.ask("far/0", Ping(), 0.05), PATIENCE_S)


async def test_a_fabric_closes_although_a_peer_does_not_read(tmp_path: Path) -> None:
    fabric, path = SocketFabric(f"unix:{tmp_path}/g", SECRET), tmp_path / "far"
    await fabric.start()
    async with listening(fabric, path) as came:
        fabric.tell("far/0", Ping())
        await accept(came, path)
        for i in range(40):
            fabric.tell("far/0", Token("r", i, "a", ["x" * 65536]))
            await asyncio.sleep(0)
        await asyncio.wait_for(fabric.close(), PATIENCE_S)


@pytest.mark.parametrize("slow", [False, True])
async def test_a_reply_that_cannot_be_sent_is_an_error_for_who_asked_and_for_nobody_else(
    tmp_path: Path, slow: bool
) -> None:
    near, far = SocketFabric(f"unix:{tmp_path}/n", SECRET), SocketFabric(f"unix:{tmp_path}/m", SECRET)
    await near.start()
    await far.start()
    near.directory.put(Endpoint("far/0", far.endpoint))
    bad = Pong("far/0", 1 << 70)

    async def later(_: Ping) -> Pong:
        await asyncio.sleep(0)
        return bad

    held = asyncio.Event()

    async def hold(_: EventBatch) -> Ack:
        await held.wait()
        return Ack()

    far.bind("far/0", {Ping: later if slow else lambda _: bad, EventBatch: hold, CancelRun: lambda _: None})
    other = asyncio.create_task(near.ask("far/0", EventBatch([]), PATIENCE_S))
    await near.ask("far/0", CancelRun("x"), PATIENCE_S)
    with pytest.raises(FrameInvalid, match="Pong cannot be sent"):
        await near.ask("far/0", Ping(), 0.5)
    held.set()
    assert await other == Ack()
    await near.close()
    await far.close()


async def test_a_handler_that_cancels_itself_still_answers(tmp_path: Path) -> None:
    """A run that somebody else stopped: who asked for it must hear something before the deadline."""
    near, far = SocketFabric(f"unix:{tmp_path}/n", SECRET), SocketFabric(f"unix:{tmp_path}/m", SECRET)
    await near.start()
    await far.start()
    near.directory.put(Endpoint("far/0", far.endpoint))

    async def give_up(_: Ping) -> Pong:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        raise AssertionError

    far.bind("far/0", {Ping: give_up})
    with pytest.raises(Exception, match=r"cancel") as caught:
        await near.ask("far/0", Ping(), 1.0)
    assert not isinstance(caught.value, DeadlineExceeded)
    await near.close()
    await far.close()


def test_a_private_folder_is_nobody_elses(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "a" / "b")
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    assert private_folder(folder).stat().st_mode & 0o777 == 0o700
