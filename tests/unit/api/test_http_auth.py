"""Keys: every route, every kind of credential."""

from __future__ import annotations

import re

import httpx2
import pytest
from api_doubles import KEY, ScriptedClient, config, in_memory

from rayflow.api.auth import OPEN_PATHS, ApiKeys
from rayflow.api.http import create_app
from rayflow.errors import AuthenticationError

ROUTES = [
    ("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/v1/models/team"), ("POST", "/chat"),
    ("POST", "/sessions"), ("GET", "/sessions/a"), ("GET", "/sessions/a/history"), ("DELETE", "/sessions/a"),
    ("GET", "/sessions"), ("PATCH", "/sessions/a"), ("POST", "/sessions/a/fork"), ("POST", "/sessions/a/close"),
    ("POST", "/sessions/a/lock"), ("DELETE", "/sessions/a/lock"),
    ("GET", "/sessions/a/state"), ("PATCH", "/sessions/a/state"), ("GET", "/sessions/a/state/history"),
    ("GET", "/sessions/a/state/checkpoints"), ("POST", "/sessions/a/state/checkpoints"),
    ("DELETE", "/sessions/a/state/checkpoints/a"), ("POST", "/sessions/a/state/restore"),
    ("DELETE", "/users/a"), ("GET", "/users/a/preferences"), ("PATCH", "/users/a/preferences"),
    ("DELETE", "/users/a/preferences"), ("GET", "/users/a/memories"), ("POST", "/users/a/memories"),
    ("DELETE", "/users/a/memories"), ("POST", "/users/a/memories/search"), ("POST", "/users/a/memories/consolidate"),
    ("DELETE", "/users/a/memories/a"), ("GET", "/v1/caches"), ("DELETE", "/v1/caches/results"),
    ("POST", "/v1/files"), ("GET", "/v1/files"), ("GET", "/v1/files/a"), ("GET", "/v1/files/a/content"),
    ("DELETE", "/v1/files/a"), ("POST", "/v1/batches"), ("GET", "/v1/batches"), ("GET", "/v1/batches/a"),
    ("POST", "/v1/batches/a/cancel"), ("POST", "/batches"), ("GET", "/batches"), ("GET", "/batches/a"),
    ("POST", "/batches/a/cancel"), ("POST", "/batches/a/resume"), ("GET", "/batches/a/results"),
    ("POST", "/runs/a/cancel"), ("GET", "/runs/a/events"), ("GET", "/ws"),
    ("POST", "/analytics/query"), ("GET", "/analytics/queries"),
    ("GET", "/performance/stats"), ("GET", "/analytics/report"), ("GET", "/alerts"), ("POST", "/feedback"),
    ("GET", "/metrics"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/healthz"), ("GET", "/readyz"),
    ("GET", "/nowhere"), ("GET", "/v1/nowhere"), ("PUT", "/healthz/x"),
]  # fmt: skip
CREDENTIALS = [
    {},
    {"authorization": "Bearer wrong"},
    {"authorization": f"Basic {KEY}"},
    {"authorization": KEY},
    {"authorization": "Bearer "},
    {"x-api-key": "wrong"},
    {"x-api-key": ""},
    {"x-api-key": KEY[:-1]},
    {"authorization": "Bearer wrong", "x-api-key": KEY},
]


@pytest.fixture
def client() -> ScriptedClient:
    return ScriptedClient(config(security={"api_keys": ["another key", KEY]}))


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_without_a_good_key_nothing_but_health_is_answered(
    client: ScriptedClient, http: httpx2.AsyncClient, method: str, path: str
) -> None:
    for headers in CREDENTIALS:
        answer = await http.request(method, path, headers=headers)
        if path in OPEN_PATHS:
            assert answer.status_code == 200
            continue
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        if path.startswith("/v1/"):
            assert answer.json()["error"]["code"] == "invalid_api_key"
        else:
            assert answer.json()["type"] == "urn:rayflow:problem:unauthenticated"
    assert client.runs == []


@pytest.mark.parametrize(
    "headers", [{"authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}, {"x-api-key": KEY}]
)
async def test_a_good_key_opens_every_route(http: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    for method, path in ROUTES:
        assert (await http.request(method, path, headers=headers)).status_code != 401


async def test_every_route_of_the_document_is_in_the_table_of_this_test(http: httpx2.AsyncClient) -> None:
    document = (await http.get("/openapi.json", headers={"x-api-key": KEY})).json()
    documented = {
        (method.upper(), re.sub(r"{\w+}", "a", path.replace("{model_id}", "team")))
        for path, item in document["paths"].items()
        for method in item
    }
    assert documented <= set(ROUTES)


async def test_without_keys_everybody_may_come_in() -> None:
    async with in_memory(create_app(ScriptedClient(config()))) as http:
        assert (await http.get("/v1/models")).status_code == 200


def test_a_key_that_is_not_ascii_is_compared_as_utf_8() -> None:
    keys = ApiKeys(["schlüssel"])
    keys.check("/x", {b"x-api-key": "schlüssel".encode()})
    with pytest.raises(AuthenticationError):
        keys.check("/x", {b"x-api-key": "schlüssel".encode("latin-1")})
