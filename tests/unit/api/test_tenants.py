"""Whose request it is follows from its key, how urgent it is from what it says of itself, and a refusal says when to
come again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from api_doubles import ScriptedClient, config, in_memory
from pydantic import ValidationError

from rayflow.api.auth import ApiKeys
from rayflow.api.http import create_app
from rayflow.app.port import check_exposure
from rayflow.context import Context, context
from rayflow.errors import (
    BudgetExceeded,
    CircuitOpen,
    ConfigurationError,
    NotFound,
    Overloaded,
    RateLimited,
    Unavailable,
    WorkflowError,
)
from rayflow.messages import CreateSession, DeleteSession, GetHistory, GetSession, RunRequest, SessionInfo

ACME, GLOBEX, NOBODYS = "rf_key_of_acme", "rf_key_of_globex", "rf_key_of_nobody"
TENANTS = [
    {"name": "acme", "api_keys": [ACME, "rf_second_key_of_acme"]},
    {"name": "globex", "api_keys": [GLOBEX], "tier": "premium"},
]
CHAT = {"message": "hello"}
COMPLETION = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}


class TenantsClient(ScriptedClient):
    """Keeps sessions by tenant, as the stores do, and the context under which it was called."""

    def __init__(self) -> None:
        super().__init__(config(tenants=TENANTS, security={"api_keys": [NOBODYS]}))
        self.kept: dict[tuple[str, str], SessionInfo] = {}
        self.contexts: list[Context | None] = []

    async def session(self, message: CreateSession | GetSession | GetHistory | DeleteSession) -> Any:
        key = (message.tenant, message.session_id)
        if isinstance(message, CreateSession):
            self.sessions.pop(message.session_id, None)
            self.kept[key] = await super().session(message)
            return self.kept[key]
        if key not in self.kept:
            raise NotFound("there is no such session", kind="session", id=message.session_id)
        return await super().session(message)

    async def run(self, request: RunRequest, timeout_s: float | None = None) -> Any:
        self.contexts.append(context.get())
        return await super().run(request, timeout_s)


@pytest.fixture
def client() -> TenantsClient:
    return TenantsClient()


@pytest.fixture
async def http(client: TenantsClient) -> AsyncIterator[httpx2.AsyncClient]:
    async with in_memory(create_app(client)) as http:
        yield http


def bearer(key: str, **headers: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}", **headers}


@pytest.mark.parametrize(
    ("key", "tenant"), [(ACME, "acme"), ("rf_second_key_of_acme", "acme"), (GLOBEX, "globex"), (NOBODYS, "")]
)
async def test_the_key_says_whose_request_it_is(
    client: TenantsClient, http: httpx2.AsyncClient, key: str, tenant: str
) -> None:
    for path, body in (("/chat", CHAT), ("/v1/chat/completions", COMPLETION)):
        assert (await http.post(path, json=body, headers=bearer(key))).status_code == 200
        assert client.runs[-1].tenant == tenant
        assert client.contexts[-1] == Context("", tenant, 2)


async def test_keys_of_tenants_alone_lock_the_door(http: httpx2.AsyncClient) -> None:
    locked = ScriptedClient(config(tenants=TENANTS))
    async with in_memory(create_app(locked)) as http:
        assert (await http.post("/chat", json=CHAT)).status_code == 401
        assert (await http.post("/chat", json=CHAT, headers=bearer(ACME))).status_code == 200
    check_exposure(locked.config, "0.0.0.0", insecure=False)
    with pytest.raises(ConfigurationError, match="without API keys"):
        check_exposure(config(tenants=[{"name": "acme"}]), "0.0.0.0", insecure=False)


async def test_sessions_of_another_tenant_do_not_exist(client: TenantsClient, http: httpx2.AsyncClient) -> None:
    created = await http.post("/sessions", json={"session_id": "s1"}, headers=bearer(ACME))
    assert created.status_code == 201
    for method, path in (("GET", "/sessions/s1"), ("GET", "/sessions/s1/history"), ("DELETE", "/sessions/s1")):
        for key in (GLOBEX, NOBODYS):
            assert (await http.request(method, path, headers=bearer(key))).status_code == 404
        assert (await http.request(method, path, headers=bearer(ACME))).status_code in (200, 204)


async def test_one_idempotency_key_of_two_tenants_is_two_runs(client: TenantsClient, http: httpx2.AsyncClient) -> None:
    for key in (ACME, GLOBEX):
        await http.post("/chat", json=CHAT, headers=bearer(key, **{"idempotency-key": "same"}))
    assert client.runs[0].run_id != client.runs[1].run_id
    assert client.runs[0].session_id != client.runs[1].session_id


def test_a_key_that_two_share_is_a_fault_of_the_configuration() -> None:
    with pytest.raises(ValidationError, match=r"tenants\.1\.api_keys\.0: expected a key that nobody else has"):
        config(tenants=[{"name": "a", "api_keys": ["k"]}, {"name": "b", "api_keys": ["k"]}])
    with pytest.raises(ValidationError, match=r"tenants\.0\.tier"):
        config(tenants=[{"name": "a", "tier": "platinum"}])


def test_every_known_key_is_compared_whichever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    import hmac

    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    keys = ApiKeys(["a"], {"t": ["b", "c"]})
    for key in ("a", "b", "c"):
        keys.check("/x", {b"x-api-key": key.encode()})
    assert len(compared) == 9


# --- priority ---


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({}, {}, "interactive"),
        ({"x-rayflow-priority": "batch"}, {}, "batch"),
        ({"x-rayflow-priority": "interactive"}, {"metadata": {"service_class": "tool"}}, "tool"),
        ({"x-rayflow-priority": "tool"}, {"service_tier": "flex"}, "batch"),
        ({}, {"service_tier": "priority"}, "interactive"),
        ({}, {"service_tier": "auto", "metadata": {"service_class": "batch"}}, "batch"),
    ],
)
async def test_of_all_classes_that_are_named_the_lowest_holds(
    client: TenantsClient, http: httpx2.AsyncClient, headers: dict[str, str], body: dict[str, Any], expected: str
) -> None:
    answer = await http.post("/v1/chat/completions", json={**COMPLETION, **body}, headers=bearer(ACME, **headers))
    assert answer.status_code == 200
    assert client.runs[-1].service_class == expected
    seen = client.contexts[-1]
    assert seen is not None
    assert ("batch", "tool", "interactive")[seen.priority] == expected


async def test_tier_and_urgency_are_passed_on(client: TenantsClient, http: httpx2.AsyncClient) -> None:
    metadata = {"user_tier": "premium", "urgency": "high", "mine": "x"}
    for path, body in (("/chat", CHAT), ("/v1/chat/completions", COMPLETION)):
        await http.post(path, json={**body, "metadata": metadata}, headers=bearer(ACME))
        run = client.runs[-1]
        assert (run.user_tier, run.urgency, run.metadata) == ("premium", "high", metadata)


@pytest.mark.parametrize(
    ("headers", "body", "param"),
    [
        ({"x-rayflow-priority": "urgent"}, {}, "x-rayflow-priority"),
        ({}, {"metadata": {"service_class": "vip"}}, "metadata.service_class"),
        ({}, {"metadata": {"user_tier": "platinum"}}, "metadata.user_tier"),
        ({}, {"metadata": {"urgency": "now"}}, "metadata.urgency"),
        ({}, {"service_tier": "turbo"}, "service_tier"),
        ({}, {"service_tier": 3}, "service_tier"),
    ],
)
async def test_a_name_that_there_is_not_is_refused_by_its_field(
    client: TenantsClient, http: httpx2.AsyncClient, headers: dict[str, str], body: dict[str, Any], param: str
) -> None:
    answer = await http.post("/v1/chat/completions", json={**COMPLETION, **body}, headers=bearer(ACME, **headers))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert client.runs == []


async def test_the_trace_of_a_request_stays_with_its_tenant_and_priority(
    client: TenantsClient, http: httpx2.AsyncClient
) -> None:
    trace = f"00-{'1' * 32}-{'2' * 16}-01"
    await http.post("/chat", json=CHAT, headers=bearer(ACME, traceparent=trace, **{"x-rayflow-priority": "batch"}))
    assert client.contexts == [Context(trace, "acme", 0)]


# --- refusals ---


@pytest.mark.parametrize(
    ("error", "status", "seconds"),
    [
        (RateLimited("slow down", retry_after_s=35.2), 429, 36),
        (BudgetExceeded("used up", retry_after_s=43_200.0), 429, 43_200),
        (BudgetExceeded("used up for ever"), 429, 1),
        (Overloaded("busy", retry_after_s=0.1), 429, 1),
        (Unavailable("not yet"), 503, 1),
        (CircuitOpen("broken", retry_after_s=9.5), 503, 10),
    ],
)
@pytest.mark.parametrize("path", ["/chat", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [False, True])
async def test_every_429_and_503_says_when_to_come_again(
    client: TenantsClient, http: httpx2.AsyncClient, error: WorkflowError, status: int, seconds: int, path: str,
    stream: bool,
) -> None:  # fmt: skip
    client.script = lambda run: [error]
    body = {**(CHAT if path == "/chat" else COMPLETION), "stream": stream}
    answer = await http.post(path, json=body, headers=bearer(ACME))
    assert answer.status_code == status
    assert int(answer.headers["retry-after"]) >= min(seconds, 1)
    if error.retry_after_s is not None:
        assert int(answer.headers["retry-after"]) == seconds
