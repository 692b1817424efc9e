"""What one WebSocket may cost: pace, size, memory of what it does not read, idle time; and how it ends."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from api_doubles import ScriptedClient, config, result, routed, tokens
from talks import Talk, reached, site
from websockets.exceptions import ConnectionClosed

from rayflow.api import sse
from rayflow.api.http import create_app
from rayflow.api.problems import ClientGone
from rayflow.api.websocket import jobs
from rayflow.api.websocket import line as line_module
from rayflow.api.websocket import socket as socket_module
from rayflow.api.websocket.line import Line
from rayflow.errors import Conflict, NotFound, WorkflowError


def limited(**security: Any) -> ScriptedClient:
    return ScriptedClient(config(security=security))


def lines(web: Any) -> list[Line]:
    return [c for c in web.server_state.connections if isinstance(c, Line)]


@pytest.mark.parametrize(
    ("sent", "code", "param"),
    [
        ("nonsense", "invalid-json", None),
        ('{"type": "ping", "type": "ping"}', "invalid-json", None),
        ('["ping"]', "invalid-request", None),
        ("{}", "invalid-request", "type"),
        ('{"type": "shout"}', "invalid-request", "type"),
        ('{"type": "message"}', "invalid-request", "message"),
        ('{"type": "message", "message": ""}', "invalid-request", "message"),
        ('{"type": "message", "message": "q", "mesage": 1}', "invalid-request", "mesage"),
        ('{"type": "message", "message": "q", "stream": false}', "invalid-request", "stream"),
        ('{"type": "message", "message": "q", "agent": "nobody"}', "not-found", "agent"),
        ('{"type": "message", "message": "q", "agent": "billing", "model": "facts"}', "invalid-request", "model"),
        ('{"type": "message", "message": "q", "session_id": "/"}', "invalid-request", "session_id"),
        ('{"type": "message", "message": "q", "idempotency_key": "a b"}', "invalid-request", "idempotency-key"),
        ('{"type": "message", "message": "q", "idempotency_key": "é"}', "invalid-request", "idempotency-key"),
        ('{"type": "message", "message": "q", "on_disconnect": "wait"}', "invalid-request", "on_disconnect"),
        ('{"type": "message", "message": "q", "enable_memory": true}', "unsupported-parameter", "enable_memory"),
        ('{"type": "resume"}', "invalid-request", "run_id"),
        ('{"type": "resume", "run_id": "r", "after": -1}', "invalid-request", "after"),
        ('{"type": "stop", "run_id": "/"}', "invalid-request", "run_id"),
        ('{"type": "stop", "run_id": 7}', "invalid-request", "run_id"),
    ],
)
async def test_what_is_wrong_is_told_and_the_connection_stays(
    client: ScriptedClient, sent: str, code: str, param: str | None
) -> None:
    async with site(create_app(client)) as web, web.talk() as talk:
        await talk.line.send(sent)
        refused = await talk.until("error")
        assert (refused["code"], refused["error"].get("param")) == (code, param)
        assert refused["message"] == refused["error"]["detail"]
        await talk.say("ping", id="x")
        assert await talk.next() == {"type": "pong", "id": "x"}
    assert client.runs == []


async def test_progress_is_told_as_on_the_native_route(client: ScriptedClient) -> None:
    client.script = lambda run: [routed(run), *tokens(run, "Hello there."), result(run)]
    async with site(create_app(client)) as web, web.talk() as talk:
        run_id = await talk.ask()
        await talk.until("done")
    facts = {"strategy": "keyword", "confidence": 0.8}
    assert talk.frames[1] == {"type": "progress", "run_id": run_id, "seq": 2, "event": "run.routed", **facts}


async def test_a_run_that_fails_is_an_error_of_that_run_alone(client: ScriptedClient) -> None:
    client.script = lambda run: [*tokens(run, "Hel"), RuntimeError("secret")]
    async with site(create_app(client)) as web, web.talk() as talk:
        run_id = await talk.ask()
        failed = await talk.until("error")
        assert (failed["run_id"], failed["code"]) == (run_id, "internal-error")
        assert "secret" not in str(failed)
        client.script = lambda run: [result(run)]
        await talk.ask()
        await talk.until("done")


async def test_messages_beyond_the_pace_are_refused_with_the_time_to_wait() -> None:
    client = limited(websocket_messages_per_s=0.5)
    async with site(create_app(client)) as web, web.talk() as talk:
        for _ in range(3):
            await talk.say("ping")
        refused = await talk.until("error")
        assert [frame["type"] for frame in talk.frames] == ["pong", "error"]
        assert refused["code"] == "rate-limited"
        assert refused["error"]["status"] == 429


async def test_a_flood_is_shut_out() -> None:
    client = limited(websocket_messages_per_s=1)
    async with site(create_app(client)) as web, web.talk() as talk:
        for _ in range(socket_module.MAX_REFUSED + 5):
            await talk.say("message", message="q")
        assert await talk.closed() == 1008
    assert len(client.runs) <= 2


async def test_a_message_that_is_too_large_closes_with_1009(client: ScriptedClient) -> None:
    async with site(create_app(client)) as web:
        async with web.talk() as talk:
            await talk.say("message", message="x" * line_module.MAX_FRAME_BYTES)
            assert await talk.closed() == 1009
        async with web.talk() as talk:
            with pytest.raises(ConnectionClosed):  # in pieces it is not smaller
                await talk.line.send(["x" * 100_000] * 3)
                await talk.line.recv()
            assert talk.line.close_code == 1009
    assert client.runs == []


async def test_a_small_message_that_inflates_is_too_large_as_well() -> None:
    client = limited(websocket_compression=True)
    async with site(create_app(client)) as web:
        web.web.open(create_app(client), client.config)
        async with web.talk(compression="deflate") as talk:
            await talk.say("message", message="x" * 10_000_000)
            assert await talk.closed() == 1009


@pytest.mark.parametrize("wanted", [False, True])
async def test_compression_is_negotiated_only_where_it_is_configured(wanted: bool) -> None:
    client = limited(websocket_compression=wanted)
    async with site(create_app(client)) as web:
        web.web.open(create_app(client), client.config)
        async with web.talk(compression="deflate") as talk:
            assert bool(talk.line.protocol.extensions) == wanted
            await talk.ask()
            await talk.until("done")
        async with web.talk(compression=None) as talk:
            assert not talk.line.protocol.extensions


async def test_binary_frames_are_not_understood(client: ScriptedClient) -> None:
    async with site(create_app(client)) as web, web.talk() as talk:
        await talk.line.send(b'{"type": "ping"}')
        assert await talk.closed() == 1003


async def test_text_that_is_not_utf_8_closes_with_1007(client: ScriptedClient) -> None:
    async with site(create_app(client)) as web, web.talk() as talk:
        await talk.line.send(b"\xff\xfe", text=True)
        assert await talk.closed() == 1007


async def test_a_connection_on_which_nothing_is_asked_is_closed() -> None:
    client = limited(websocket_idle_s=0.05)
    async with site(create_app(client)) as web, web.talk() as talk:
        assert await talk.closed() == 1001


async def test_while_a_run_is_under_way_a_connection_is_not_idle() -> None:
    client = limited(websocket_idle_s=0.02)
    go_on = asyncio.Event()
    client.script = lambda run: [go_on, result(run)]
    async with site(create_app(client)) as web, web.talk() as talk:
        await talk.ask()
        asyncio.get_running_loop().call_later(0.1, go_on.set)
        await talk.until("done")
        assert await talk.closed() == 1001


def chatter(run: Any) -> list[Any]:
    """Far more than the buffers of both ends hold."""
    return [*tokens(run, *["x" * 100_000] * 200), result(run, "x" * 20_000_000)]


async def deaf(port: int) -> socket.socket:
    """A client that has asked something and reads nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", port))
    head = b"GET /ws HTTP/1.1\r\nhost: t\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    await loop.sock_sendall(
        sock, head + b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    while b"\r\n\r\n" not in await loop.sock_recv(sock, 4096):
        pass
    said = json.dumps({"type": "message", "message": "hi"}).encode()
    await loop.sock_sendall(sock, bytes([0x81, 0x80 | len(said), 0, 0, 0, 0]) + said)
    return sock


async def test_who_reads_nothing_is_given_up_and_costs_one_buffer(
    client: ScriptedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "SLOW_READER_S", 0.3)
    monkeypatch.setattr(line_module, "LINGER_S", 0.01)
    client.script = chatter
    async with site(create_app(client)) as web:
        with await deaf(web.port):
            await reached(lambda: bool(lines(web.web)) and not lines(web.web)[0].writable.is_set())
            (line,) = lines(web.web)
            assert line.transport.get_write_buffer_size() < 1 << 20
            await client.cancelled.wait()
            await reached(lambda: not lines(web.web))


async def test_who_reads_again_in_time_learns_why(client: ScriptedClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "SLOW_READER_S", 0.1)
    monkeypatch.setattr(line_module, "LINGER_S", 10)
    client.script = chatter
    async with site(create_app(client)) as web, web.talk(max_size=None) as talk:
        await talk.ask()
        await client.cancelled.wait()
        assert await talk.closed() == 1013


async def test_pings_of_who_does_not_read_are_not_answered(client: ScriptedClient) -> None:
    client.script = chatter
    async with site(create_app(client)) as web:
        with await deaf(web.port) as sock:
            await reached(lambda: bool(lines(web.web)) and not lines(web.web)[0].writable.is_set())
            (line,) = lines(web.web)
            before = line.transport.get_write_buffer_size()
            for _ in range(1000):
                line.data_received(bytes([0x89, 0x80 | 100, 0, 0, 0, 0]) + b"p" * 100)
            assert line.transport.get_write_buffer_size() <= before
            sock.close()
        await client.cancelled.wait()


async def test_a_reader_that_is_only_slow_gets_everything(client: ScriptedClient) -> None:
    client.script = chatter
    async with site(create_app(client)) as web, web.talk(max_size=None) as talk:
        run_id = await talk.ask()
        await reached(lambda: not lines(web.web)[0].writable.is_set())
        await talk.until("done")
        assert talk.text(run_id) == talk.all("response")[0]["content"]


async def test_a_client_that_is_dead_is_noticed_by_its_pongs(
    client: ScriptedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has not said goodbye, and what was written to it will never be taken."""
    monkeypatch.setattr(line_module, "LINGER_S", 0.01)
    client.script = chatter
    async with site(create_app(client)) as web:
        web.web.config.ws_ping_interval = web.web.config.ws_ping_timeout = 0.05
        with await deaf(web.port):
            await client.cancelled.wait()
            await reached(lambda: not lines(web.web))


async def test_what_a_broken_connection_swallowed_was_not_shown(client: ScriptedClient) -> None:
    async with site(create_app(client)) as web, web.talk():
        (line,) = lines(web.web)
        real = line.transport

        class Breaking:
            def write(self, data: bytes) -> None:
                real.abort()

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

        line.transport = Breaking()  # type: ignore[assignment]
        with pytest.raises(ClientGone):
            await line.write([b"{}"])


# --- stops that come at a bad moment ---


async def test_a_run_that_no_router_has_is_stopped_here(
    client: ScriptedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its router died, and it waits for the next one."""
    monkeypatch.setattr(jobs, "SETTLE_S", 0.01)
    monkeypatch.setattr(client, "cancel", _raising(NotFound("no run is under way")))
    client.script = lambda run: [asyncio.Event()]
    async with site(create_app(client)) as web, web.talk() as talk:
        run_id = await talk.ask(session_id="s")
        await talk.say("stop")
        stopped = {"type": "stopped", "run_id": run_id, "session_id": "s", "content": ""}
        assert await talk.until("stopped") == stopped
        assert client.cancelled.is_set()


async def test_a_stop_that_comes_too_late_gets_the_answer(
    client: ScriptedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()
    monkeypatch.setattr(client, "cancel", _raising(Conflict("it has just ended"), asked))
    client.script = lambda run: [*tokens(run, "Hello"), asked, *tokens(run, " there."), result(run)]
    async with site(create_app(client)) as web, web.talk() as talk:
        await talk.ask()
        await talk.say("stop")
        await talk.until("done")
        assert not talk.all("stopped")


def _raising(error: WorkflowError, called: asyncio.Event | None = None) -> Callable[..., Awaitable[None]]:
    async def cancel(*_: object) -> None:
        if called is not None:
            called.set()
        raise error

    return cancel


# --- the end of the server ---


async def held(talk: Talk, client: ScriptedClient) -> tuple[str, asyncio.Event]:
    go_on = asyncio.Event()
    client.script = lambda run: [*tokens(run, "Hello"), go_on, *tokens(run, " there."), result(run)]
    run_id = await talk.ask()
    await client.waiting.wait()
    return run_id, go_on


async def test_when_the_server_stops_runs_end_well_and_then_the_connection_is_closed(client: ScriptedClient) -> None:
    async with site(create_app(client)) as web, web.talk() as talk, web.talk() as idle:
        _, go_on = await held(talk, client)
        web.web.stop()
        assert await idle.closed() == 1012
        await talk.say("message", message="more", id=5)
        refused = await talk.until("error")
        assert (refused["id"], refused["code"]) == (5, "unavailable")
        go_on.set()
        await talk.until("done")
        assert await talk.closed() == 1012
        await web.task
        assert web.web.cut == 0


async def test_a_run_that_outlasts_the_budget_is_told_so(client: ScriptedClient) -> None:
    async with site(create_app(client), drain_s=0) as web, web.talk() as talk:
        run_id, _ = await held(talk, client)
        web.web.stop()
        failed = await talk.until("error")
        assert (failed["run_id"], failed["code"]) == (run_id, "unavailable")
        assert await talk.closed() == 1012
        await web.task
        assert web.web.cut == 1
        assert client.cancelled.is_set()


async def test_under_a_new_configuration_one_connects_anew(client: ScriptedClient) -> None:
    """The old key may be one of those that are known no longer."""
    async with site(create_app(client)) as web, web.talk() as talk:
        _, go_on = await held(talk, client)
        keyed = limited(api_keys=["a-new-key-of-someone"])
        web.web.open(create_app(keyed), keyed.config)
        go_on.set()
        await talk.until("done")
        assert await talk.closed() == 1012
        with pytest.raises(Exception, match="401"):
            async with web.talk():
                pass
