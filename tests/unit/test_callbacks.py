"""Nobody who may name a URL makes this process talk to what only it can reach."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.certificates import self_signed

from rayflow import callbacks
from rayflow.callbacks import METADATA, READ_BYTES, Callbacks, forbidden, target
from rayflow.errors import Unavailable, ValidationError

INSIDE = {
    "127.0.0.1", "127.8.9.10", "10.0.0.1", "172.16.5.4", "172.31.255.255", "192.168.1.1", "100.64.0.1",
    "100.100.100.200", "169.254.0.1", "169.254.169.254", "168.63.129.16", "0.0.0.0", "0.1.2.3", "192.0.0.192",
    "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.250", "240.0.0.1",
    "255.255.255.255", "::1", "::", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.1.1.1",
    "::127.0.0.1", "::a9fe:a9fe", "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::1",
    "2002:a9fe:a9fe::", "2001::1", "2001:db8::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1",
    "ff02::1",
}  # fmt: skip
"""Addresses inside, and the disguises they come in."""

DISGUISED_HOSTS = ("2130706433", "0x7f.0.0.1", "0177.0.0.1", "127.1", "0", "localhost", "localhost.")
REFUSED_URLS = (
    "http://example.com/", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "//example.com/",
    "example.com", "https://", "https:///path", "https://user:secret@example.com/", "https://example.com@10.0.0.1/",
    "https://example.com\\@10.0.0.1/", "https://example.com:0/", "https://example.com:99999/", "https://exa mple.com/",
    "https://example.com/\r\nHost: inside", "https://ⓔxample.com/", "https://①②⑦.0.0.1/", "https://[::1", "",
    "https://example.com/" + "x" * 3000,
)  # fmt: skip


@pytest.mark.parametrize("address", sorted(INSIDE))
def test_no_address_inside_is_talked_to(address: str) -> None:
    assert forbidden(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are(address: str) -> None:
    assert not forbidden(address)


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "::1", "fd12::1"])
def test_a_listed_host_may_be_inside(address: str) -> None:
    assert not forbidden(address, own=True)


@pytest.mark.parametrize("address", [*sorted(map(str, METADATA)), "::ffff:169.254.169.254", "fe80::1", "224.0.0.1"])
def test_listing_a_host_opens_no_metadata_service(address: str) -> None:
    assert forbidden(address, own=True)


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_a_url_that_hides_where_it_leads_is_refused(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        target(url)
    assert refused.value.details["param"] == "callback_url"


@pytest.mark.parametrize("url", ["http://example.com/services/T0/SECRET?k=SECRET", "https://me:SECRET@example.com/"])
def test_a_refusal_does_not_tell_what_may_be_a_secret(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        target(url)
    assert "SECRET" not in refused.value.message


@pytest.mark.parametrize("host", DISGUISED_HOSTS)
async def test_numbers_and_names_for_this_machine_are_seen_through(host: str) -> None:
    with pytest.raises((ValidationError, Unavailable)) as refused:  # where the resolver does not take the disguise
        await Callbacks().post(f"https://{host}/", b"{}")
    assert isinstance(refused.value, ValidationError) or "cannot be told" in refused.value.message


@pytest.mark.parametrize("listed", ["hooks.corp", "hooks.corp:8443"])
def test_a_listed_host_needs_tls_unless_its_entry_says_http(listed: str) -> None:
    assert target("https://hooks.corp:8443/x", [listed]).own
    with pytest.raises(ValidationError, match="https"):
        target("http://hooks.corp:8443/x", [listed])
    assert not target("http://hooks.corp:8443/x", [f"http://{listed}"]).tls
    assert not target("https://hooks.corp.example/x", [listed]).own


def test_an_entry_with_a_port_is_for_that_port() -> None:
    assert not target("https://hooks.corp/x", ["hooks.corp:8443"]).own
    assert target("https://[fd12::1]:8443/x", ["[fd12::1]:8443"]).own


async def test_one_address_inside_among_several_is_enough() -> None:
    async def mixed(host: str, port: int) -> list[str]:
        return ["8.8.8.8", "10.0.0.5"]

    with pytest.raises(ValidationError, match=r"10\.0\.0\.5"):
        await Callbacks(resolve=mixed).post("https://example.com/", b"{}")


async def test_a_name_is_resolved_once_and_that_address_is_talked_to(tmp_path: Path) -> None:
    """DNS rebinding: the second answer of the name server is never asked for."""
    asked = []

    async def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1" if len(asked) == 1 else "127.0.0.2"]

    server_side, client_side = self_signed(tmp_path, "hooks.corp")
    async with receiver(b"HTTP/1.1 204 No Content\r\n\r\n", server_side) as (port, requests):
        told = Callbacks(["hooks.corp"], rebinding, client_side)
        await told.post(f"https://hooks.corp:{port}/done?job=1", b'{"ok":true}', {"X-Job": "1"})
    head, _, body = requests[0].partition(b"\r\n\r\n")
    assert (asked, body) == (["hooks.corp"], b'{"ok":true}')
    assert head.startswith(b"POST /done?job=1 HTTP/1.1\r\nHost: hooks.corp:%d\r\n" % port) and b"X-Job: 1" in head


async def test_the_certificate_must_be_of_the_host_that_was_named(tmp_path: Path) -> None:
    async def local(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    server_side, client_side = self_signed(tmp_path, "somebody.else")
    async with receiver(b"HTTP/1.1 204 No Content\r\n\r\n", server_side) as (port, _):
        with pytest.raises(Unavailable, match="certificate"):
            await Callbacks(["hooks.corp"], local, client_side).post(f"https://hooks.corp:{port}/", b"{}")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with receiver(b"HTTP/1.1 %d Moved\r\nLocation: http://169.254.169.254/\r\n\r\n" % status) as (port, requests):
        with pytest.raises(Unavailable) as failed:
            await local(port).post(f"http://127.0.0.1:{port}/", b"{}")
    assert failed.value.details["upstream_status"] == status and len(requests) == 1


@pytest.mark.parametrize(
    "answer",
    [b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"HTTP/1.1 2xx\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * READ_BYTES, b""],
    ids=["not HTTP", "no status", "an endless head", "nothing"],
)
async def test_an_answer_that_is_none_is_a_failure(answer: bytes) -> None:
    async with receiver(answer) as (port, _):
        with pytest.raises(Unavailable):
            await local(port).post(f"http://127.0.0.1:{port}/", b"{}")


async def test_interim_answers_are_read_over_within_the_limit() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    async with receiver(interim * 2 + b"HTTP/1.1 200 OK\r\n\r\n") as (port, _):
        await local(port).post(f"http://127.0.0.1:{port}/", b"{}")
    async with receiver(interim * (READ_BYTES // len(interim) + 2)) as (port, _):
        with pytest.raises(Unavailable, match="no answer"):
            await local(port).post(f"http://127.0.0.1:{port}/", b"{}")


async def test_who_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "TIMEOUT_S", 0.05)
    async with receiver(None) as (port, _):
        with pytest.raises(Unavailable, match="within"):
            await local(port).post(f"http://127.0.0.1:{port}/", b"{}")


async def test_delivery_is_tried_again_unless_the_receiver_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "PAUSES_S", (0.0, 0.0))
    async with receiver(b"HTTP/1.1 503 Busy\r\n\r\n") as (port, requests):
        with pytest.raises(Unavailable):
            await local(port).deliver(f"http://127.0.0.1:{port}/", b"{}")
        assert len(requests) == 3
    async with receiver(b"HTTP/1.1 410 Gone\r\n\r\n") as (port, requests):
        with pytest.raises(Unavailable):
            await local(port).deliver(f"http://127.0.0.1:{port}/", b"{}")
        assert len(requests) == 1


async def test_a_closed_port_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}"):
        await local(port).post(f"http://127.0.0.1:{port}/", b"{}")


def local(port: int) -> Callbacks:
    return Callbacks([f"http://127.0.0.1:{port}"])


@asynccontextmanager
async def receiver(answer: bytes | None, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers every request like this; None: never."""
    requests: list[bytes] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        requests.append(head + await reader.readexactly(length))
        if answer is None:
            await over.wait()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], requests
    finally:
        over.set()
        server.close()
        await server.wait_closed()
