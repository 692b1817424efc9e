"""What is counted, and that docs/metrics.md says so."""

from __future__ import annotations

import re
from pathlib import Path

import httpx2
import msgspec
from api_doubles import ScriptedClient, result, tokens
from prometheus_client.parser import text_string_to_metric_families
from support.whole import Call, whole

from rayflow.api.metrics import Metrics
from rayflow.errors import ExecutionError
from rayflow.messages import CacheCounts, RunRequest, Sample
from rayflow.messages.stats import FIGURES

DOCS = Path(__file__).parents[3] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?P<kind>\w+) \| (?P<labels>[^|]*) \|", re.MULTILINE)


async def samples(http: httpx2.AsyncClient) -> dict[str, float]:
    text = (await http.get("/metrics")).text
    return {
        f"{sample.name}{dict(sorted(sample.labels.items()))}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_runs_tokens_and_requests_are_counted(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    await http.post("/chat", json={"message": "hi"})
    await http.post("/chat", json={"message": "hi", "stream": True})
    client.script = lambda run: [ExecutionError("no")]
    await http.post("/chat", json={"message": "hi"})
    client.script = lambda run: [*tokens(run, "Hel"), ExecutionError("no")]
    await http.post("/chat", json={"message": "hi", "stream": True})
    seen = await samples(http)
    assert seen["workflow_executions_total{'status': 'ok', 'workflow_type': 'team'}"] == 2
    assert seen["workflow_executions_total{'status': 'error', 'workflow_type': 'team'}"] == 2
    assert seen["workflow_duration_seconds_count{'workflow_type': 'team'}"] == 4
    assert seen["rayflow_tokens_total{'kind': 'prompt'}"] == 24
    assert seen["rayflow_tokens_total{'kind': 'completion'}"] == 10
    assert seen["rayflow_time_to_first_token_seconds_count{}"] == 2
    assert seen["rayflow_requests_total{'code': '200', 'route': '/chat'}"] == 3
    assert seen["rayflow_requests_total{'code': '500', 'route': '/chat'}"] == 1
    assert seen["rayflow_runs_in_flight{}"] == 0


async def test_labels_never_hold_what_a_client_wrote(client: ScriptedClient, http: httpx2.AsyncClient) -> None:
    client.keep("s-secret", "hi")
    await http.get("/sessions/s-secret")
    await http.get("/no/such/path")
    await http.get("/v1/models/whatever")
    await http.post("/chat", json={"message": "hi", "user_id": "u-secret", "session_id": "s-secret"})
    routes = {name for name in await samples(http) if name.startswith("rayflow_requests_total")}
    assert routes == {
        "rayflow_requests_total{'code': '200', 'route': '/sessions/{session_id}'}",
        "rayflow_requests_total{'code': '404', 'route': 'other'}",
        "rayflow_requests_total{'code': '404', 'route': '/v1/models/{model_id}'}",
        "rayflow_requests_total{'code': '200', 'route': '/chat'}",
    }


def test_a_run_is_in_flight_until_its_result() -> None:
    metrics = Metrics("team")
    with metrics.run() as meter:
        assert metrics.registry.get_sample_value("rayflow_runs_in_flight") == 1
        meter.finished(result(RunRequest("run_1", "s", [])))
    assert metrics.registry.get_sample_value("rayflow_runs_in_flight") == 0


async def test_a_scrape_tells_what_routers_count() -> None:
    async with whole() as system:
        await Call(system.ingress(), "/chat", {"message": "hello"}).done()
        page = (await Call(system.ingress(1), "/metrics", method="GET").done()).received.decode()
    seen = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    assert seen["rayflow_parts_total", "a", "ok", "router/0"] == 1
    assert seen["rayflow_model_tokens_total", "completion", "offline", "router/0"] == 12
    assert seen["rayflow_queue_wait_seconds_count", "a", "router/0"] == 1
    assert seen["rayflow_queue_wait_seconds_bucket", "+Inf", "a", "router/0"] == 1
    assert seen["rayflow_pool_replicas", "a", "router/0"] == 1


def example(name: str) -> Sample:
    figure = FIGURES[name]
    counts = [0] * (len(figure.buckets) + 1) if figure.kind == "histogram" else []
    return Sample(name, ["x"] * len(figure.labels), 1.0, counts)


def test_the_documented_metrics_are_those_of_the_registry() -> None:
    metrics = Metrics("team")
    metrics.request("/chat", 200, 0.1)
    metrics.caches.counts = [CacheCounts("results", "router")]
    metrics.figures.samples = [example(name) for name in FIGURES]
    metrics.opinion("up")
    kept = {}
    for family in metrics.registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        kept[name] = (family.type, labels)
    documented = {
        row["name"]: (row["kind"], set(re.findall(r"`(\w+)`", row["labels"]))) for row in ROW.finditer(DOCS.read_text())
    }
    assert documented == kept


def test_contexts_are_counted_by_whether_they_were_in_memory() -> None:
    metrics = Metrics("team")
    run = RunRequest("run_1", "sess_1", [])
    for read in (True, False, False, None):
        with metrics.run() as meter:
            meter.finished(msgspec.structs.replace(result(run), context_read=read))
    text = metrics.expose().decode()
    assert 'rayflow_context_cache_total{outcome="hit"} 2.0' in text
    assert 'rayflow_context_cache_total{outcome="miss"} 1.0' in text
