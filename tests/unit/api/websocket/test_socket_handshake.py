"""A WebSocket is opened only for those who may, and everybody else is answered as by any other route."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode
from contextlib import suppress
from typing import Any

import pytest
from api_doubles import KEY, ScriptedClient, config, in_memory
from talks import Site, site
from websockets.exceptions import InvalidStatus

from rayflow.api.http import create_app
from rayflow.api.web import WebServer, listen

TENANTS = [{"name": "one", "api_keys": ["key of one, with blanks"]}]
KEYED = {"security": {"api_keys": [KEY]}, "tenants": TENANTS}


def offered(key: str) -> list[Any]:
    return ["rayflow.v1", "rayflow.key." + urlsafe_b64encode(key.encode()).decode().rstrip("=")]


async def tried(web: Site, path: str = "/ws", **given: Any) -> int:
    """The status of the answer."""
    try:
        async with web.talk(path, **given):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


@pytest.mark.parametrize(
    "given",
    [
        {"additional_headers": {"Authorization": f"Bearer {KEY}"}},
        {"additional_headers": {"X-API-Key": KEY}},
        {"subprotocols": offered(KEY)},
        {"subprotocols": offered(TENANTS[0]["api_keys"][0])},
    ],
    ids=["bearer", "x-api-key", "subprotocol", "a tenant's"],
)
async def test_a_key_opens_it(given: dict[str, Any]) -> None:
    client = ScriptedClient(config(**KEYED))
    async with site(create_app(client)) as web, web.talk(**given) as talk:
        await talk.ask()
        await talk.until("done")
    tenant = "one" if given.get("subprotocols") == offered(TENANTS[0]["api_keys"][0]) else ""
    assert [run.tenant for run in client.runs] == [tenant]


async def test_only_the_name_of_the_protocol_is_echoed() -> None:
    async with site(create_app(ScriptedClient(config(**KEYED)))) as web, web.talk(subprotocols=offered(KEY)) as talk:
        assert talk.line.subprotocol == "rayflow.v1"
        assert talk.line.response is not None
        assert talk.line.response.headers["x-request-id"].startswith("run_")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"additional_headers": {"Authorization": "Bearer wrong"}},
        {"subprotocols": offered("wrong")},
        {"subprotocols": ["rayflow.v1", "rayflow.key.!"]},
        {"subprotocols": ["rayflow.v1", "rayflow.key.abcde"]},
    ],
    ids=["none", "wrong", "wrong subprotocol", "no base64url", "cut base64url"],
)
async def test_without_a_key_that_is_known_it_stays_shut(
    given: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    client = ScriptedClient(config(**KEYED))
    async with site(create_app(client)) as web:
        with pytest.raises(InvalidStatus) as refused:
            async with web.talk(**given):
                pass
    answer = refused.value.response
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert json.loads(answer.body or b"")["type"] == "urn:rayflow:problem:unauthenticated"
    assert not [record for record in caplog.records if record.levelname == "ERROR"], "strangers could fill the log"


async def test_a_key_in_the_address_is_no_key() -> None:
    async with site(create_app(ScriptedClient(config(**KEYED)))) as web:
        assert await tried(web, f"/ws?api_key={KEY}") == 401


OPEN: dict[str, Any] = {}
LISTED = {"security": {"websocket_origins": ["https://chat.example.com"]}}


@pytest.mark.parametrize(
    ("sections", "origin", "host", "status"),
    [
        (OPEN, None, None, 101),
        (OPEN, "http://localhost:5173", None, 101),
        (OPEN, "http://127.0.0.1", None, 101),
        (OPEN, "http://[::1]:3000", None, 101),
        (OPEN, "https://evil.example", None, 403),
        (OPEN, "http://rebound.example:8000", "rebound.example:8000", 403),
        (OPEN, "null", None, 403),
        (OPEN, "http://localhost.evil.example", None, 403),
        (OPEN, "http://[bad", None, 403),
        (KEYED, "https://chat.example.com", "chat.example.com", 101),
        (KEYED, "https://CHAT.example.com", "chat.example.COM", 101),
        (KEYED, "https://evil.example", "chat.example.com", 403),
        (KEYED, "https://chat.example.com:444", "chat.example.com", 403),
        (LISTED, "https://chat.example.com", None, 101),
        (LISTED, "http://chat.example.com", None, 403),
        (LISTED, "http://localhost", None, 403),
        (LISTED, None, None, 101),
    ],
)
async def test_pages_of_other_sites_may_not_connect(
    sections: dict[str, Any], origin: str | None, host: str | None, status: int
) -> None:
    client = ScriptedClient(config(**sections))
    headers = {"Authorization": f"Bearer {KEY}"} if sections is KEYED else {}
    async with site(create_app(client)) as web:
        assert await upgraded(web.port, host=host or "127.0.0.1", origin=origin, **headers) == status


@pytest.mark.parametrize("origin", ["*", "chat.example.com", "https://chat.example.com/", "ftp://x"])
def test_an_origin_is_a_scheme_and_a_host(origin: str) -> None:
    with pytest.raises(ValueError, match="websocket_origins"):
        config(security={"websocket_origins": [origin]})


async def test_there_is_one_route_of_websockets() -> None:
    async with site(create_app(ScriptedClient(config()))) as web:
        assert await tried(web, "/chat") == 404
        assert await tried(web, "/ws/") == 404


async def test_a_request_to_it_is_told_to_upgrade(client: ScriptedClient) -> None:
    async with in_memory(create_app(client)) as http:
        told = await http.get("/ws")
    assert (told.status_code, told.headers["upgrade"]) == (426, "websocket")
    assert told.json()["type"] == "urn:rayflow:problem:upgrade-required"


async def test_while_the_door_is_shut_it_asks_for_patience(client: ScriptedClient) -> None:
    web, sock = WebServer(), listen("127.0.0.1", 0)
    task = asyncio.create_task(web.serve([sock]))
    shut = Site(web, sock.getsockname()[1], task)
    assert await tried(shut) == 503
    web.open(create_app(client), client.config)
    assert await tried(shut) == 101
    web.stop()
    await task


# --- what stands in front of it ---


async def exchanged(port: int, request: bytes) -> bytes:
    """All that is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(10):
        answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return answer


async def upgraded(port: int, line: str = "GET /ws HTTP/1.1", more: bytes = b"", **headers: str | None) -> int:
    """The status of the answer to a raw handshake."""
    given: dict[str, str | None] = {
        "host": "test", "upgrade": "websocket", "connection": "Upgrade",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version": "13", **headers,
    }  # fmt: skip
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items() if value is not None)
    answer = await exchanged(port, f"{line}\r\n{head}".encode("latin-1") + more + b"\r\n")
    return int(answer.split(b" ")[1])


TWICE = [b"host: other\r\n", b"origin: http://localhost\r\norigin: http://evil.example\r\n"]


@pytest.mark.parametrize("more", [*TWICE, b"".join(b"x-%d: y\r\n" % i for i in range(110))], ids=str)
async def test_the_rules_of_headers_hold_for_it(client: ScriptedClient, more: bytes) -> None:
    async with site(create_app(client)) as web:
        assert await upgraded(web.port, more=more) == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-websocket-key": "short"}, 400),
        ({"sec-websocket-version": "8"}, 400),
        ({"x-long": "y" * 9000}, 431),
        ({"content-length": "3"}, 400),
        ({"transfer-encoding": "chunked"}, 400),
        ({"upgrade": "h2c"}, 426),
    ],
    ids=str,
)
async def test_a_malformed_handshake_is_answered_and_closed(
    client: ScriptedClient, headers: dict[str, str], status: int
) -> None:
    body = {"content-length": b"abc", "transfer-encoding": b"0\r\n\r\n"}
    sent = body.get(next(iter(headers)), b"")
    async with site(create_app(client)) as web:
        given = "".join(
            f"{name}: {value}\r\n"
            for name, value in {
                "host": "test", "upgrade": "websocket", "connection": "Upgrade",
                "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version": "13", **headers,
            }.items()
        )  # fmt: skip
        answer = await exchanged(web.port, f"GET /ws HTTP/1.1\r\n{given}\r\n".encode() + sent)
        assert int(answer.split(b" ")[1]) == status


@pytest.mark.parametrize("line", ["POST /ws HTTP/1.1", "GET /ws HTTP/1.0"])
async def test_what_cannot_be_upgraded_is_an_ordinary_request(client: ScriptedClient, line: str) -> None:
    async with site(create_app(client)) as web:
        assert await upgraded(web.port, line) in (405, 426)


async def test_a_handshake_behind_an_unanswered_request_cuts_the_connection(client: ScriptedClient) -> None:
    """Else two answers would be written into each other."""
    client.script = lambda run: [asyncio.Event()]
    async with site(create_app(client)) as web:
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        body = b'{"message": "hi"}'
        writer.write(
            b"POST /chat HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            % len(body)
        )
        writer.write(body + b"GET /ws HTTP/1.1\r\nhost: t\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        await client.cancelled.wait()


async def test_who_is_let_in_is_counted(client: ScriptedClient) -> None:
    app = create_app(client)
    async with site(app) as web, in_memory(app) as http:
        async with web.talk(), web.talk() as talk:
            await talk.say("ping")
            await talk.until("pong")
            assert "rayflow_websockets 2.0" in (await http.get("/metrics")).text
            assert (await http.get("/healthz")).json() == {"status": "ok", "websockets": 2}
            assert await tried(web, "/nowhere") == 404
        while "rayflow_websockets 0.0" not in (page := (await http.get("/metrics")).text):
            await asyncio.sleep(0.001)
        assert 'rayflow_requests_total{code="101",route="/ws"} 2.0' in page
        assert 'rayflow_requests_total{code="404",route="other"} 1.0' in page
