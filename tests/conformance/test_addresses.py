"""The fast lane finds its endpoint without the openai package, and exactly where the package would look."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from rayflow.errors import ConfigurationError
from rayflow.models.address import address, needs_sdk
from rayflow.models.sdk_lane import sdk_client

KEY = "sk-test"
OURS = frozenset({"user-agent"})
"""What tells who asks differs, as it should."""
BASES = [
    None,
    "http://127.0.0.1:8000/v1",
    "http://127.0.0.1:8000/v1/",
    "https://model.test",
    "https://model.test:443/v1",
    "http://model.test:80/v1",
    "http://model.test:8443/v1",
    "https://model.test/a%20b/v1",
    "https://model.test/a b/v1",
    "https://model.test/m\u00fcnchen/v1",
    "https://m\u00fcnchen.test/v1",
    "https://model.test/v1?api-version=2026-01-01&x=1",
    "https://model.test/v1/?api-version=1",
    "https://model.test/v1#part",
    "http://[::1]:8000/v1",
    "HTTPS://Model.Test/V1",
    "https://model.test/deployments/gpt(5)/v1",
]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"organization": "org-1", "project": "proj_1"},
    {"organization": "", "project": ""},
    {"headers": {"X-Team": "blue", "api-key": "k"}},
    {"headers": {"Authorization": "Token t", "User-Agent": "mine", "OpenAI-Project": "other"}},
    {"headers": {"AUTHORIZATION": "Token t", "content-TYPE": "application/x"}, "project": "proj_1"},
]
ENVIRONMENTS: list[dict[str, str]] = [
    {},
    {"OPENAI_BASE_URL": "https://elsewhere.test/v1", "OPENAI_ORG_ID": "org-env", "OPENAI_PROJECT_ID": "proj-env"},
]


async def of_package(base_url: str | None, settings: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """Where the package's own client posts a chat, and with which headers."""
    sdk = sdk_client(KEY, base_url, settings.get("organization"), settings.get("project"), settings.get("headers"), 1.0)
    base, mark, query = sdk.base_url.raw_path.partition(b"?")
    url = sdk.base_url.copy_with(raw_path=base.rstrip(b"/") + b"/chat/completions" + mark + query, fragment=None)
    sent: dict[str, str] = {}
    for part in (sdk.auth_headers, sdk.default_headers):
        sent |= {name.lower(): value for name, value in part.items() if isinstance(value, str)}
    await sdk.close()
    own = OURS - {name.lower() for name in settings.get("headers") or {}}
    return str(url), {name: sent[name] for name in sent if name not in own and not name.startswith("x-stainless")}


@pytest.mark.parametrize("env", ENVIRONMENTS, ids=str)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("base_url", BASES)
async def test_every_setting_leads_where_the_package_would_go(
    monkeypatch: pytest.MonkeyPatch, base_url: str | None, settings: dict[str, Any], env: dict[str, str]
) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    expected = await of_package(base_url, settings)
    wanted = {"organization": None, "project": None, "headers": None, **settings}
    found = address("/chat/completions", api_key=KEY, base_url=base_url, **wanted)
    own = OURS - {name.lower() for name in settings.get("headers") or {}}
    assert (found.url, {name: found.headers[name] for name in found.headers if name not in own}) == expected


@pytest.mark.parametrize(
    ("base_url", "shown"),
    [
        ("https://user:secret@model.test/v1?key=secret", "https://model.test/v1"),
        ("http://secret@[::1]:8000/v1/", "http://[::1]:8000/v1"),
        (None, "https://api.openai.com/v1"),
    ],
)
def test_errors_show_no_password_no_key_and_no_query(base_url: str | None, shown: str) -> None:
    found = address(
        "/chat/completions", api_key=KEY, base_url=base_url, organization=None, project=None, headers=None, env={}
    )
    assert found.shown == shown
    assert "secret" not in found.url.partition("?")[0]


def test_a_host_that_cannot_be_looked_up_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="cannot be looked up"):
        address("/x", api_key=KEY, base_url=f"http://{'a' * 64}.test", organization=None, project=None, headers=None)


@pytest.mark.parametrize(
    ("env", "needed"),
    [
        ({}, False),
        ({"OPENAI_CUSTOM_HEADERS": "x-team: blue"}, True),
        ({"HTTPS_PROXY": "http://proxy.test:3128"}, True),
        ({"HTTP_PROXY": "http://proxy.test:3128"}, False),
        ({"ALL_PROXY": "http://proxy.test:3128"}, True),
        ({"HTTPS_PROXY": "http://proxy.test:3128", "NO_PROXY": "model.test"}, False),
    ],
    ids=str,
)
def test_what_only_the_package_can_do_is_left_to_it(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], needed: bool
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "OPENAI_CUSTOM_HEADERS"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert needs_sdk("https://model.test/v1/chat/completions") is needed


def test_a_plain_endpoint_is_reached_without_the_package() -> None:
    code = (
        "import sys\n"
        "from rayflow.models.openai_endpoint import OpenAIEndpoint\n"
        "OpenAIEndpoint('m', api_key='k', base_url='http://127.0.0.1:8000/v1')\n"
        "print(sorted({'openai', 'httpx2', 'pydantic', 'aiohttp'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("[]", "['pydantic']"), "the configuration's pydantic is all there is"
