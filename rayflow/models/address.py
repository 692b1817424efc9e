"""Where requests go, and with which headers: what the openai package would make of the same settings.

The package costs each process that imports it 22 MB and most of a second, so a plain endpoint is reached without it. A
contract suite compares what is here with the package's own client, setting by setting.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from rayflow import __version__
from rayflow.errors import ConfigurationError

OPENAI_URL = "https://api.openai.com/v1"
_KEPT = "/%:@!$&'()*+,;=~"
"""What stands for itself in a path, beside letters and digits."""


class Address(NamedTuple):
    """`url`: where requests are posted, without a user and password. `headers`: names in lower case. `shown`: how
    errors name the endpoint: no password, no key, no query."""

    url: str
    headers: dict[str, str]
    shown: str


def address(
    path: str,
    *,
    api_key: str,
    base_url: str | None,
    organization: str | None,
    project: str | None,
    headers: Mapping[str, str] | None,
    env: Mapping[str, str] = os.environ,
) -> Address:
    """The address of `path` at an endpoint. Raises `ConfigurationError` for a host that cannot be looked up."""
    parts = urlsplit(base_url or env.get("OPENAI_BASE_URL") or OPENAI_URL)
    place = parts._replace(netloc=_netloc(parts), path=quote(parts.path.rstrip("/"), safe=_KEPT), fragment="")
    given = {
        "authorization": f"Bearer {api_key}",
        "accept": "application/json",
        "content-type": "application/json",
        "user-agent": f"rayflow/{__version__}",
        "openai-organization": env.get("OPENAI_ORG_ID") if organization is None else organization,
        "openai-project": env.get("OPENAI_PROJECT_ID") if project is None else project,
        **{name.lower(): value for name, value in (headers or {}).items()},
        **_basic_auth(parts),
    }
    return Address(
        place._replace(path=place.path + path).geturl(),
        {name: value for name, value in given.items() if value is not None},
        place._replace(query="").geturl(),
    )


def needs_sdk(url: str, env: Mapping[str, str] = os.environ) -> bool:
    """Whether only the openai package gets there as the environment says: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and
    NO_PROXY, or headers in OPENAI_CUSTOM_HEADERS."""
    if "OPENAI_CUSTOM_HEADERS" in env:
        return True
    parts, proxies = urlsplit(url), getproxies()
    if parts.hostname and proxy_bypass(parts.hostname):
        return False
    return bool(proxies.get(parts.scheme) or proxies.get("all"))


def _netloc(parts: SplitResult) -> str:
    host = parts.hostname or ""
    try:
        name = host.encode("idna").decode()
    except UnicodeError as error:
        raise ConfigurationError(f"models: {host!r} cannot be looked up as a host: {error}") from None
    name = f"[{name}]" if ":" in name else name
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return name if parts.port in (None, usual) else f"{name}:{parts.port}"


def _basic_auth(parts: SplitResult) -> dict[str, str]:
    """A user and password in the address come before the key."""
    if not parts.username and not parts.password:
        return {}
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return {"authorization": f"Basic {b64encode(pair.encode()).decode()}"}
