"""Health, readiness, models, the OpenAPI document and the docs page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx2
import pytest
from api_doubles import ScriptedClient, config, in_memory

from rayflow.api.catalogue import NO_LANGUAGE_MODEL
from rayflow.api.http import create_app
from rayflow.api.problems import (
    BodyTooSlow,
    HeadersInvalid,
    MethodNotAllowed,
    OriginNotAllowed,
    UnsupportedMediaType,
    UnsupportedParameter,
    UpgradeRequired,
)
from rayflow.errors import BY_SLUG

DOCS = Path(__file__).parents[3] / "docs" / "api.md"


async def test_ready_follows_the_system_and_health_does_not(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    assert (await http.get("/readyz")).json() == {"status": "ready"}
    client.ready = False
    answer = await http.get("/readyz")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["type"] == "urn:rayflow:problem:unavailable"
    assert (await http.get("/healthz")).json() == {"status": "ok"}


async def test_models_are_the_workflow_and_its_agents(http: httpx2.AsyncClient) -> None:
    answer = (await http.get("/v1/models")).json()
    assert answer["object"] == "list"
    assert [(model["id"], model["object"]) for model in answer["data"]] == [
        ("team", "model"),
        ("billing", "model"),
        ("facts", "model"),
    ]
    assert all(isinstance(model["created"], int) for model in answer["data"])


async def test_only_what_runs_offline_says_that_it_is_no_language_model(http: httpx2.AsyncClient) -> None:
    says = {m["id"]: NO_LANGUAGE_MODEL in m["description"] for m in (await http.get("/v1/models")).json()["data"]}
    assert says == {"team": False, "billing": False, "facts": True}
    offline = config(agents=[{"name": "solo"}], models=[])
    async with in_memory(create_app(ScriptedClient(offline))) as http:
        team = (await http.get("/v1/models/team")).json()
    assert team["description"] == f"Answers customers. {NO_LANGUAGE_MODEL}"


async def test_auto_is_the_workflow_unless_an_agent_has_that_name(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/v1/models/auto")).json()["id"] == "team"
    named = config(agents=[{"name": "auto"}], models=[])
    async with in_memory(create_app(ScriptedClient(named))) as http:
        assert (await http.get("/v1/models/auto")).json()["id"] == "auto"


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


async def test_the_document_describes_every_route_and_leads_nowhere_else(http: httpx2.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    assert {(method, path) for path, item in document["paths"].items() for method in item} == {
        ("post", "/v1/chat/completions"), ("get", "/v1/models"), ("get", "/v1/models/{model_id}"),
        ("post", "/chat"), ("get", "/ws"), ("post", "/sessions"), ("get", "/sessions/{session_id}"),
        ("get", "/sessions"), ("patch", "/sessions/{session_id}"), ("delete", "/sessions/{session_id}"),
        ("get", "/sessions/{session_id}/history"), ("post", "/sessions/{session_id}/fork"),
        ("post", "/sessions/{session_id}/lock"), ("delete", "/sessions/{session_id}/lock"),
        ("post", "/sessions/{session_id}/close"), ("delete", "/users/{user_id}"),
        ("get", "/users/{user_id}/preferences"), ("patch", "/users/{user_id}/preferences"),
        ("delete", "/users/{user_id}/preferences"), ("get", "/users/{user_id}/memories"),
        ("post", "/users/{user_id}/memories"), ("delete", "/users/{user_id}/memories"),
        ("post", "/users/{user_id}/memories/search"), ("post", "/users/{user_id}/memories/consolidate"),
        ("delete", "/users/{user_id}/memories/{memory_id}"),
        ("get", "/sessions/{session_id}/state"), ("patch", "/sessions/{session_id}/state"),
        ("get", "/sessions/{session_id}/state/history"), ("post", "/sessions/{session_id}/state/restore"),
        ("get", "/sessions/{session_id}/state/checkpoints"), ("post", "/sessions/{session_id}/state/checkpoints"),
        ("delete", "/sessions/{session_id}/state/checkpoints/{name}"),
        ("post", "/runs/{run_id}/cancel"), ("get", "/runs/{run_id}/events"),
        ("get", "/healthz"), ("get", "/readyz"), ("get", "/metrics"),
        ("post", "/analytics/query"), ("get", "/analytics/queries"),
        ("get", "/performance/stats"), ("get", "/analytics/report"), ("get", "/alerts"), ("post", "/feedback"),
        ("post", "/v1/files"), ("get", "/v1/files"), ("get", "/v1/files/{file_id}"), ("delete", "/v1/files/{file_id}"),
        ("get", "/v1/files/{file_id}/content"), ("post", "/v1/batches"), ("get", "/v1/batches"),
        ("get", "/v1/batches/{batch_id}"), ("post", "/v1/batches/{batch_id}/cancel"),
        ("post", "/batches"), ("get", "/batches"), ("get", "/batches/{job_id}"),
        ("post", "/batches/{job_id}/cancel"), ("post", "/batches/{job_id}/resume"),
        ("get", "/batches/{job_id}/results"),
        ("get", "/v1/caches"), ("delete", "/v1/caches/results"),
    }  # fmt: skip
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= known
    assert "HTTPValidationError" not in document["components"]["schemas"]
    request = document["components"]["schemas"]["ChatCompletionRequest"]
    assert request["required"] == ["messages", "model"]


async def test_the_document_asks_for_a_key_where_one_is_needed(http: httpx2.AsyncClient) -> None:
    assert "security" not in (await http.get("/openapi.json")).json()
    locked = ScriptedClient(config(security={"api_keys": ["k"]}))
    async with in_memory(create_app(locked)) as http:
        document = (await http.get("/openapi.json", headers={"x-api-key": "k"})).json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "key"}


async def test_the_docs_page_needs_nothing_from_elsewhere(http: httpx2.AsyncClient) -> None:
    page = await http.get("/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert re.findall(r"(?:src|href)=\"([^\"]*)", page.text) == ["openapi.json"]
    assert "<script" not in page.text
    for route in ("/v1/chat/completions", "/sessions/{session_id}/history"):
        assert route in page.text


async def test_the_docs_page_escapes_what_the_workflow_says() -> None:
    sly = ScriptedClient(config(description="<script>alert(1)</script>"))
    async with in_memory(create_app(sly)) as http:
        assert "<script>" not in (await http.get("/docs")).text


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/nowhere"])
async def test_every_answer_has_an_id_of_its_own(http: httpx2.AsyncClient, path: str) -> None:
    ids = {(await http.get(path)).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


async def test_the_written_documentation_has_every_route_and_every_error(http: httpx2.AsyncClient) -> None:
    text = DOCS.read_text()
    document = (await http.get("/openapi.json")).json()
    routes = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
    assert set(re.findall(r"^\| `((?:GET|POST|PATCH|DELETE) [^`]+)`", text, re.MULTILINE)) == routes
    own = (
        HeadersInvalid, UnsupportedMediaType, UnsupportedParameter, MethodNotAllowed, BodyTooSlow, UpgradeRequired,
        OriginNotAllowed,
    )  # fmt: skip
    expected = {cls.slug: cls.status for cls in (*BY_SLUG.values(), *own)}
    rows = re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \| (\d{3}) \|", text, re.MULTILINE)
    written = {slug: int(status) for slugs, status in rows for slug in re.findall(r"`([a-z-]+)`", slugs)}
    assert written == expected
