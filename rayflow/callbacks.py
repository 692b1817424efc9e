"""Telling a URL that somebody else named: webhooks of alerts, callbacks of batch jobs.

Whoever may name a URL could make this process talk to what only it can reach: the metadata service of the cloud, a
database on the same network. Looking at the name is not enough, because it may resolve to something else a moment later
(DNS rebinding), or be redirected. So the name is resolved once, every address it has is checked, and the connection
goes to the very address that was checked; TLS still proves that it is the host that was named. A redirect is an answer
like any other, and never followed. Source: OWASP, Server-Side Request Forgery Prevention.

Hosts of one's own network are listed in `security.callback_hosts`.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rayflow.errors import Unavailable, ValidationError

if TYPE_CHECKING:
    import ssl

TIMEOUT_S = 5.0
"""For one try: resolving, connecting, sending and the head of the answer."""
READ_BYTES = 64 << 10
"""Most that is read of an answer."""
PAUSES_S = (1.0, 5.0)
"""Between the tries of `deliver`."""
MAX_URL = 2048

METADATA = frozenset(map(ip_address, ("169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254")))
"""Metadata services of clouds, some of them at addresses that look public. Never asked, whatever is listed."""
_SPECIAL = tuple(map(ip_network, ("192.0.0.0/24", "64:ff9b:1::/48", "2001::/23", "3fff::/20", "5f00::/16")))
"""Set aside by IANA, but global to some versions of Python."""
_CARRIES_IPV4 = tuple((ip_network(net), shift) for net, shift in (("::/96", 0), ("64:ff9b::/96", 0), ("2002::/16", 80)))
"""Networks whose addresses lead to the IPv4 address that stands in them, and where: IPv4-compatible, NAT64, 6to4."""
_URL = re.compile(r"[\x21-\x5b\x5d-\x7e]+")
_HOST = re.compile(r"([a-zA-Z]+://[\w.\[\]:-]+)(?:[/?#]|$)")
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9]\d\d)[ \r]")

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads. `own`: it is listed, so it may be in a private network."""

    host: str
    port: int
    path: str
    tls: bool
    own: bool

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


def target(url: str, own_hosts: Collection[str] = ()) -> Target:
    """What a URL says, without asking the network: for refusing it when it is named.

    `own_hosts`: `HOST` or `HOST:PORT` may be in a private network, `http://HOST[:PORT]` also be told without TLS.
    Raises `ValidationError` (`param` is "callback_url").
    """
    if len(url) > MAX_URL or not _URL.fullmatch(url):
        raise _refused(url, f"expected at most {MAX_URL} visible ASCII characters and no backslash")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as problem:
        raise _refused(url, str(problem)) from None
    tls = parts.scheme == "https"
    if not host or parts.scheme not in ("http", "https"):
        raise _refused(url, "expected https://HOST[:PORT]/PATH")
    if parts.username is not None or parts.password is not None:
        raise _refused(url, "names and passwords do not belong into it")
    if port == 0:
        raise _refused(url, "expected a port from 1 to 65535")
    port = port or (443 if tls else 80)
    names = {host, f"{host}:{port}"} | ({f"[{host}]", f"[{host}]:{port}"} if ":" in host else set())
    listed = {entry.lower() for entry in own_hosts}
    plain = not listed.isdisjoint(f"http://{name}" for name in names)
    if not tls and not plain:
        raise _refused(url, "expected https; plain http is for hosts that security.callback_hosts lists with http://")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(host, port, path, tls, plain or not listed.isdisjoint(names))


def forbidden(address: str, own: bool = False) -> str:
    """Why an address is not talked to; "" where it may be. `own`: private and loopback addresses are fine."""
    ip = _carried(ip_address(address.partition("%")[0]))
    if ip in METADATA:
        return "a metadata service"
    if ip.is_link_local or (isinstance(ip, IPv6Address) and ip.is_site_local):
        return "a link-local address"
    if ip.is_multicast or ip.is_unspecified:
        return "not the address of a host"
    if own:
        return ""
    if ip.is_loopback:
        return "this machine itself"
    public = ip.is_global and not ip.is_reserved and not any(ip in network for network in _SPECIAL)
    return "" if public else "an address of a private network"


class Callbacks:
    """Tells URLs within the limits above. Holds no connection; one object serves a whole process.

    `own_hosts`: as for `target`. `resolve`: the addresses of a host. `tls`: None for the system's certificates.
    """

    def __init__(
        self, own_hosts: Collection[str] = (), resolve: Resolve | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._own_hosts = frozenset(own_hosts)
        self._resolve = resolve or _resolve
        self._tls = tls

    def check(self, url: str) -> None:
        """Raises `ValidationError` for a URL that will never be told."""
        target(url, self._own_hosts)

    async def deliver(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """`post`, tried again where that may help: three times in all. Raises what the last try raised."""
        for pause_s in PAUSES_S:
            try:
                return await self.post(url, body, headers)
            except Unavailable as error:
                if 400 <= error.details.get("upstream_status", 500) < 500:
                    raise
            await asyncio.sleep(pause_s)
        return await self.post(url, body, headers)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """One POST of JSON, answered with 2xx. Raises `ValidationError` for a URL or an address that is not talked to,
        `Unavailable` where it cannot be reached in time or answers something else (`upstream_status`)."""
        to = target(url, self._own_hosts)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status = await self._tell(to, await self._addresses(to, url), _request(to, body, headers or {}))
        except TimeoutError:
            raise Unavailable(f"{to.authority} did not take the callback within {TIMEOUT_S:g} s") from None
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as problem:
            raise Unavailable(f"{to.authority} cannot be told: {problem}") from problem
        if not 200 <= status < 300:
            raise Unavailable(f"{to.authority} answered the callback with {status}", upstream_status=status)

    async def _addresses(self, to: Target, url: str) -> list[str]:
        addresses = await self._resolve(to.host, to.port)
        for address in addresses:
            if why := forbidden(address, to.own):
                listing = "" if to.own else f"; list {to.authority} in security.callback_hosts if it is one of yours"
                raise _refused(url, f"{to.host} is {address}, {why}{listing}")
        return addresses

    async def _tell(self, to: Target, addresses: list[str], request: bytes) -> int:
        problem: OSError = OSError("its name has no address")
        for address in addresses:
            try:
                reader, writer = await asyncio.open_connection(
                    address,
                    to.port,
                    limit=READ_BYTES,
                    ssl=self._context() if to.tls else None,
                    server_hostname=to.host.rstrip(".") if to.tls else None,
                )
            except OSError as error:
                problem = error
                continue
            try:
                writer.write(request)
                return await _status(reader)
            finally:
                writer.transport.abort()  # what else it has to say, nobody reads
        raise problem

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            import ssl

            self._tls = ssl.create_default_context()
        return self._tls


async def _resolve(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _request(to: Target, body: bytes, headers: Mapping[str, str]) -> bytes:
    fields = {
        "Host": to.authority,
        "User-Agent": "rayflow",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {to.path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


async def _status(reader: asyncio.StreamReader) -> int:
    """The status of the final answer; those that only say that one will come are read over."""
    left = READ_BYTES
    while left > 0:
        head = await reader.readuntil(b"\r\n\r\n")
        left -= len(head)
        line = _STATUS.match(head)
        if line is None:
            raise OSError("its answer is not HTTP")
        if (status := int(line[1])) >= 200:
            return status
    raise OSError(f"no answer within {READ_BYTES} bytes")


def _carried(ip: Address) -> Address:
    """The IPv4 address that an IPv6 address leads to, or the address itself."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    for network, shift in _CARRIES_IPV4:
        if ip in network and int(ip) > 1:
            return IPv4Address(int(ip) >> shift & 0xFFFFFFFF)
    return ip


def _refused(url: str, why: str) -> ValidationError:
    """Of the URL only its host is told: the rest may be a secret."""
    host = _HOST.match(url)
    return ValidationError(f"callback to {host[1] if host else 'this URL'} is refused: {why}", param="callback_url")
