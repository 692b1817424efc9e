"""Against raw servers that write exactly the bytes they want.

Each test runs on asyncio's loop and on uvloop, and at its end every connection must be gone.
"""

from __future__ import annotations

import asyncio
import gc
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from rayflow.errors import ConfigurationError
from rayflow.models import http1
from rayflow.models.http1 import HEAD_BYTES, READ_BYTES, Answer, BrokenAnswer, Endpoint

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
UNTIL_CLOSED = b"HTTP/1.1 200 OK\r\n\r\n"


def sized(body: bytes, extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%s\r\n%s" % (len(body), extra, body)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def request(self) -> tuple[str, bytes]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(line[15:]) for line in head.splitlines() if line.startswith("content-length:"))
        return head, await self._reader.readexactly(length)

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, data: bytes) -> None:
        await self.request()
        await self.say(data)

    async def gone(self) -> None:
        """Returns when the client has closed the connection."""
        with suppress(ConnectionError):
            while await self._reader.read(1 << 16):
                pass


Script = Callable[[Peer], Awaitable[None]]


class Server:
    """Runs `script` for each connection, waits for the client to close it, and at the end for all of them."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self._script = script
        self._tls = tls
        self._host = host
        self._tasks: list[asyncio.Task[None]] = []
        self._endpoints: list[Endpoint] = []
        self.ended = asyncio.Event()
        """A connection is over."""

    @property
    def connections(self) -> int:
        return len(self._tasks)

    def endpoint(self, keep_s: float = 60.0, connect_s: float = 5.0) -> Endpoint:
        host = f"[{self._host}]" if ":" in self._host else self._host
        url = f"{'https' if self._tls else 'http'}://{host}:{self.port}/v1/chat"
        self._endpoints.append(Endpoint(url, {}, connect_s, keep_s))
        return self._endpoints[-1]

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._connected, self._host, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for endpoint in self._endpoints:
            endpoint.close()
        self._server.close()
        async with asyncio.timeout(10):  # a client that keeps a connection open fails here
            await asyncio.gather(*self._tasks)
        await self._server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.append(asyncio.ensure_future(self._serve(Peer(reader, writer))))

    async def _serve(self, peer: Peer) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._script(peer)
            await peer.gone()
        self.ended.set()
        peer.writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await peer.writer.wait_closed()


def saying(*answers: bytes, close: bool = False) -> Script:
    """Answers the requests of one connection one after the other, and closes it if told so."""

    async def script(peer: Peer) -> None:
        for said in answers:
            await peer.answer(said)
        if close:
            peer.writer.close()

    return script


async def body_of(answer: Answer) -> bytes:
    return b"".join([read async for read in reads_of(answer)])


async def reads_of(answer: Answer) -> AsyncIterator[bytes]:
    while read := await answer.read():
        yield read


async def call(endpoint: Endpoint, request: bytes = b"{}") -> bytes:
    answer = await endpoint.post(request)
    try:
        return await body_of(answer)
    finally:
        await answer.close()


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """What is forgotten open says so when it is collected, and warnings are errors."""
    gc.freeze()  # what was there before is not looked at: that takes most of a second
    yield
    gc.collect()
    gc.unfreeze()


# --- one answer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "close"),
    [
        (sized(b"Hello"), False),
        (CHUNKED + chunk(b"He") + chunk(b"llo") + b"0\r\n\r\n", False),
        (CHUNKED + chunk(b"Hello") + b"0\r\nx-checksum: 1\r\ncontent-type: text/evil\r\n\r\n", False),
        (UNTIL_CLOSED + b"Hello", True),
        (b"HTTP/1.0 200 OK\r\n\r\nHello", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + sized(b"Hello"), False),
    ],
    ids=["sized", "chunked", "trailers", "until-closed", "http-1.0", "interim"],
)
async def test_a_whole_body_is_read_however_its_end_is_marked(said: bytes, close: bool) -> None:
    async with Server(saying(said, close=close)) as server:
        answer = await server.endpoint().post(b"{}")
        assert (answer.status, await body_of(answer)) == (200, b"Hello")
        assert not answer.headers.keys() & {"link", "content-type"}, "neither interim answers nor trailers are its head"
        await answer.close()


async def test_an_answer_split_at_every_byte_is_the_same() -> None:
    said = CHUNKED + chunk(b"Hello") + b"0\r\n\r\n"

    async def script(peer: Peer) -> None:
        await peer.request()
        for i in range(len(said)):
            await peer.say(said[i : i + 1])
            await asyncio.sleep(0)

    async with Server(script) as server:
        assert await call(server.endpoint()) == b"Hello"


async def test_an_answer_without_a_body_is_empty() -> None:
    async with Server(saying(b"HTTP/1.1 204 No Content\r\n\r\n")) as server:
        assert await call(server.endpoint()) == b""


@pytest.mark.parametrize(
    "said",
    [sized(b"Hello")[:-2], CHUNKED + chunk(b"Hel"), CHUNKED + b"5\r\nHel", CHUNKED + chunk(b"Hello") + b"0\r\n"],
    ids=["sized", "between-chunks", "within-a-chunk", "before-the-last-line"],
)
async def test_a_truncated_body_is_a_broken_answer(said: bytes) -> None:
    async with Server(saying(said, close=True)) as server:
        with pytest.raises(BrokenAnswer, match="the endpoint closed the connection"):
            await call(server.endpoint())


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nPRI * HTTP/2.0",
        CHUNKED + b"zz\r\n",
    ],
    ids=["ssh", "tls-alert", "two-lengths", "length-and-chunked", "upgrade", "no-chunk"],
)
async def test_garbage_is_a_broken_answer_and_ends_the_connection(said: bytes) -> None:
    async with Server(saying(said)) as server:
        with pytest.raises(BrokenAnswer, match="does not speak HTTP as expected"):
            await call(server.endpoint())
        await server.ended.wait()


@pytest.mark.parametrize(
    "begin", [b"HTTP/1.1 200 OK\r\n", CHUNKED + chunk(b"a") + b"0\r\n"], ids=["headers", "trailers"]
)
@pytest.mark.parametrize("repeated", [b"x-filler: 0123456789\r\n", b"x-endless: ", b"0"], ids=["many", "name", "value"])
async def test_a_head_without_end_is_refused(begin: bytes, repeated: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(begin + (b"x: " if repeated == b"0" else b""))
        while True:
            await peer.say(repeated * (HEAD_BYTES // len(repeated)))

    async with Server(script) as server:
        with pytest.raises(BrokenAnswer):
            await call(server.endpoint())
        await server.ended.wait()


async def test_interim_answers_without_end_are_refused() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        while True:
            await peer.say(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

    async with Server(script) as server:
        with pytest.raises(BrokenAnswer, match="head of the answer is larger"):
            await call(server.endpoint())


async def test_header_names_are_lower_case_and_the_first_of_two_counts() -> None:
    async with Server(saying(sized(b"", b"Retry-After: 3\r\nRETRY-AFTER: 4\r\n"))) as server:
        answer = await server.endpoint().post(b"{}")
        assert answer.headers["retry-after"] == "3"
        await answer.close()


async def test_a_compressed_answer_is_refused_and_says_who_can_read_it() -> None:
    async with Server(saying(sized(b"\x1f\x8b", b"content-encoding: gzip\r\n"))) as server:
        with pytest.raises(BrokenAnswer, match=r"gzip.*lane: sdk"):
            await call(server.endpoint())


async def test_a_large_request_arrives_whole() -> None:
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        got.append((await peer.request())[1])
        await peer.say(sized(b"ok"))

    async with Server(script) as server:
        assert await call(server.endpoint(), b"x" * (8 << 20)) == b"ok"
    assert got == [b"x" * (8 << 20)]


# --- connections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        sized(b"Hello"),
        CHUNKED + chunk(b"Hello") + b"0\r\n\r\n",
        CHUNKED + chunk(b"Hello") + b"0\r\nx-a: 1\r\nx-b: 2\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + sized(b"Hello"),
    ],
    ids=["sized", "chunked", "trailers", "interim"],
)
async def test_a_kept_connection_is_used_again(said: bytes) -> None:
    async with Server(saying(said, said, said)) as server:
        endpoint = server.endpoint()
        assert [await call(endpoint) for _ in range(3)] == [b"Hello"] * 3
        assert server.connections == 1


async def test_calls_at_the_same_time_do_not_share_a_connection() -> None:
    async with Server(saying(sized(b"one"), sized(b"two"))) as server:
        endpoint = server.endpoint()
        assert await asyncio.gather(call(endpoint), call(endpoint)) == [b"one", b"one"]
        assert await asyncio.gather(call(endpoint), call(endpoint)) == [b"two", b"two"]
        assert server.connections == 2


async def test_small_writes_leave_at_once() -> None:
    async with Server(saying(sized(b""))) as server:
        answer = await server.endpoint().post(b"{}")
        transport = answer._connection._transport
        assert transport is not None
        assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await answer.close()


async def test_a_connection_that_was_idle_for_too_long_is_closed_and_not_used_again() -> None:
    async with Server(saying(sized(b"a"), sized(b"b"))) as server:
        endpoint = server.endpoint(keep_s=0.0)
        assert [await call(endpoint), await call(endpoint)] == [b"a", b"a"]
        assert server.connections == 2


async def test_idle_connections_are_closed_although_nobody_calls() -> None:
    async with Server(saying(sized(b"a"))) as server:
        await call(server.endpoint(keep_s=0.01))
        await server.ended.wait()


async def test_a_connection_that_the_server_closed_while_it_was_idle_is_not_used_again() -> None:
    async with Server(saying(sized(b"a"), close=True)) as server:
        endpoint = server.endpoint()
        assert await call(endpoint) == b"a"
        await until(lambda: not any(connection.alive for connection in endpoint._idle))
        assert await call(endpoint) == b"a"
        assert server.connections == 2


@pytest.mark.parametrize("said", [sized(b"a", b"connection: close\r\n"), sized(b"a").replace(b"/1.1", b"/1.0")])
async def test_a_connection_the_server_wants_closed_is_closed(said: bytes) -> None:
    async with Server(saying(said)) as server:
        assert await call(server.endpoint()) == b"a"
        await server.ended.wait()


async def test_an_answer_given_back_before_its_end_closes_the_connection() -> None:
    async with Server(saying(CHUNKED + chunk(b"Hello"))) as server:
        answer = await server.endpoint().post(b"{}")
        await answer.close()
        await server.ended.wait()


async def test_an_answer_may_be_closed_twice() -> None:
    async with Server(saying(sized(b"a"), sized(b"b"))) as server:
        endpoint = server.endpoint()
        first = await endpoint.post(b"{}")
        await body_of(first)
        await first.close()
        second = await endpoint.post(b"{}")
        await first.close()
        assert await asyncio.gather(body_of(second), call(endpoint)) == [b"b", b"a"]
        await second.close()


async def test_a_request_that_is_still_going_out_keeps_its_connection_from_being_used_again() -> None:
    async def early(peer: Peer) -> None:
        await peer._reader.readuntil(b"\r\n\r\n")
        await peer.say(sized(b"too large"))

    async with Server(early) as server:
        endpoint = server.endpoint()
        assert await call(endpoint, b"x" * (64 << 20)) == b"too large"
        assert not endpoint._idle


@pytest.mark.parametrize("surplus", [sized(b"forged"), b"x", b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n"])
@pytest.mark.parametrize("together", [True, False], ids=["same-read", "later"])
async def test_what_follows_an_answer_never_becomes_the_next_one(surplus: bytes, together: bool) -> None:
    said = asyncio.Event()

    async def script(peer: Peer) -> None:
        if together:
            await peer.answer(sized(b"real") + surplus)
        else:
            await peer.answer(sized(b"real"))
            await said.wait()
            await peer.say(surplus)

    async with Server(script) as server:
        endpoint = server.endpoint()
        assert await call(endpoint) == b"real"
        said.set()
        await server.ended.wait()
        assert await call(endpoint) == b"real"
        assert server.connections == 2


async def test_what_comes_before_the_first_request_is_no_answer() -> None:
    async def script(peer: Peer) -> None:
        await peer.say(sized(b"forged"))

    async with Server(script) as server:
        endpoint = server.endpoint()
        connection = await endpoint._connect()
        await until(lambda: not connection.alive)
        with pytest.raises(BrokenAnswer, match="without being asked"):
            await connection.ask(b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n")


# --- time -------------------------------------------------------------------------------------------------------------


async def test_a_server_is_slowed_down_while_nobody_reads_and_goes_on_afterwards() -> None:
    size, piece = 64 << 20, 1 << 20
    written = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size // piece):
            await peer.say(b"x" * piece)
        written.set()

    async with Server(script) as server:
        answer = await server.endpoint().post(b"{}")
        connection = answer._connection
        await until(lambda: connection._paused)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert connection._body_bytes < 3 * READ_BYTES
        assert not written.is_set()
        reads = [len(read) async for read in reads_of(answer)]
        assert sum(reads) == size
        assert max(reads) < 3 * READ_BYTES
        await answer.close()


@pytest.mark.parametrize("waits", [True, False])
async def test_a_reader_that_rests_gets_what_came_meanwhile_in_one_piece(waits: bool) -> None:
    rests, written = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.answer(CHUNKED + chunk(b"first"))
        await rests.wait()
        for _ in range(10):
            await peer.say(chunk(b"token "))
        written.set()

    async with Server(script) as server:
        answer = await server.endpoint().post(b"{}")
        assert await answer.read() == b"first"
        assert answer.ready() == b""
        rests.set()
        await written.wait()
        assert not answer._connection._body, "the socket was not read"
        assert (await answer.read() if waits else answer.ready()) == b"token " * 10
        await answer.close()


@pytest.mark.parametrize("end", [b"", b"0\r\n\r\n", b"garbage\r\n"])
async def test_whoever_does_not_wait_gets_what_is_there_and_leaves_its_end_to_those_who_do(end: bytes) -> None:
    rests, written = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.answer(CHUNKED + chunk(b"first"))
        await rests.wait()
        await peer.say(chunk(b"second") + end)
        peer.writer.close()
        written.set()

    async with Server(script) as server:
        answer = await server.endpoint().post(b"{}")
        assert await answer.read() == b"first"
        rests.set()
        await written.wait()
        assert answer.ready() == b"second"
        assert answer.ready() == b""
        if end.startswith(b"0"):
            assert await answer.read() == b""
        else:
            with pytest.raises(BrokenAnswer):
                await answer.read()
        await answer.close()


async def test_a_call_cancelled_before_its_head_closes_the_connection() -> None:
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()

    async with Server(script) as server:
        task = asyncio.create_task(call(server.endpoint()))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.ended.wait()


async def test_a_call_cancelled_within_its_body_closes_the_connection() -> None:
    async with Server(saying(CHUNKED + chunk(b"half"))) as server:
        answer = await server.endpoint().post(b"{}")
        await answer.read()
        task = asyncio.ensure_future(answer.read())
        await until(lambda: answer._connection._reader and not answer._connection._reader.done())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await answer.close()
        await server.ended.wait()


async def test_closing_the_endpoint_breaks_what_is_being_read_and_closes_what_is_idle() -> None:
    async with Server(saying(sized(b"a"), CHUNKED)) as server:
        endpoint = server.endpoint()
        await asyncio.gather(call(endpoint), call(endpoint))
        answer = await endpoint.post(b"{}")
        task = asyncio.create_task(body_of(answer))
        await until(lambda: answer._connection._reader and not answer._connection._reader.done())
        endpoint.close()
        with pytest.raises(BrokenAnswer, match="the client closed the connection"):
            await task
        await answer.close()
        with pytest.raises(BrokenAnswer, match="the client is closed"):
            await endpoint.post(b"{}")


# --- connecting -------------------------------------------------------------------------------------------------------


@contextmanager
def deaf() -> Iterator[int]:
    """The port of a listener whose queue is full: connecting to it takes forever."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for sock in waiting:
            sock.close()


async def test_no_connection_in_time_is_a_timeout() -> None:
    with deaf() as port, pytest.raises(TimeoutError):
        await Endpoint(f"http://127.0.0.1:{port}/", {}, 0.05, 60).post(b"{}")


async def test_a_call_cancelled_while_it_connects_leaves_nothing_behind() -> None:
    with deaf() as port:
        task = asyncio.create_task(Endpoint(f"http://127.0.0.1:{port}/", {}, 5, 60).post(b"{}"))
        for _ in range(100):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_refused_connection_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        await Endpoint(f"http://127.0.0.1:{port}/", {}, 5, 60).post(b"{}")


async def test_an_address_that_does_not_answer_does_not_use_up_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "NEXT_ADDRESS_S", 0.01)
    loop = asyncio.get_running_loop()
    look_up = loop.getaddrinfo
    async with Server(saying(sized(b"Hello"))) as server:
        with deaf() as deaf_port:

            async def two_addresses(host: str, port: int, **more: int) -> list[tuple[object, ...]]:
                if host != "two.test":
                    return list(await look_up(host, port, **more))
                ports = (deaf_port, server.port)
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]

            monkeypatch.setattr(loop, "getaddrinfo", two_addresses)
            endpoint = Endpoint("http://two.test/", {}, 5, 60)
            assert await call(endpoint) == b"Hello"
            endpoint.close()


async def test_an_address_may_be_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    heads: list[str] = []

    async def script(peer: Peer) -> None:
        heads.append((await peer.request())[0])
        await peer.say(sized(b"Hello"))

    try:
        server = await Server(script, host="::1").__aenter__()
    except OSError:
        pytest.skip("no IPv6 loopback here")
    assert await call(server.endpoint()) == b"Hello"
    assert f"host: [::1]:{server.port}\r\n" in heads[0]
    await server.__aexit__()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate for localhost, and a server's context with it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command")
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "certificate.pem", folder / "key.pem"
    for_localhost = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", made, *for_localhost],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return made, context


@pytest.fixture
async def tls_server(certificate: tuple[Path, ssl.SSLContext]) -> AsyncIterator[Server]:
    stream = CHUNKED + b"".join(chunk(b"x" * 100_000) for _ in range(20)) + b"0\r\n\r\n"
    async with Server(saying(sized(b"Hello"), stream, CHUNKED), tls=certificate[1]) as server:
        yield server


async def test_a_certificate_nobody_trusts_is_named(tls_server: Server) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"certificate verify failed: self.signed certificate"):
        await call(tls_server.endpoint())


async def test_a_certificate_in_ssl_cert_file_is_trusted(
    tls_server: Server, certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    endpoint = tls_server.endpoint()
    assert await call(endpoint) == b"Hello"
    assert len(await call(endpoint)) == 2_000_000
    answer = await endpoint.post(b"{}")
    await answer.close()
    await tls_server.ended.wait()
    assert tls_server.connections == 1


# --- the request ------------------------------------------------------------------------------------------------------


async def test_the_request_names_its_host_and_length_and_keeps_a_query() -> None:
    heads: list[str] = []

    async def script(peer: Peer) -> None:
        heads.append((await peer.request())[0])
        await peer.say(sized(b""))

    async with Server(script) as server:
        endpoint = Endpoint(f"http://user:secret@127.0.0.1:{server.port}/v1?v=2#x", {"X-Team": "blue"}, 5, 60)
        await call(endpoint, b"{ }")
        endpoint.close()
    assert heads == [
        f"POST /v1?v=2 HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\ncontent-type: application/json\r\n"
        "x-team: blue\r\naccept-encoding: identity\r\ncontent-length: 3\r\n\r\n"
    ]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("x-a", "secret\r\nx-b: 1", "a line break"),
        ("x-a", "secret\nx-b: 1", "a line break"),
        ("x-a", "secret\x00", "printable ASCII"),
        ("x-a", "secret 🌱", "printable ASCII"),
        ("x a", "secret", "not a name"),
        ("x-a\r\nx-b", "secret", "not a name"),
        ("", "secret", "not a name"),
        ("Transfer-Encoding", "chunked", "leave it out"),
        ("Content-Length", "7", "leave it out"),
    ],
)
def test_a_header_that_cannot_be_sent_is_named_and_not_shown(name: str, value: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as raised:
        Endpoint("http://127.0.0.1/", {name: value}, 5, 60)
    assert repr(name.lower()) in raised.value.message
    assert "secret" not in raised.value.message


def test_a_host_that_cannot_be_looked_up_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"'a\.\.b' cannot be looked up"):
        Endpoint("http://a..b/", {}, 5, 60)
