"""Every rule speaks when its numbers say so, is silent just below, and names what shows it and what to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import synthetic_log
from support.sql import asking
from support.synthetic_log import NOON

from rayflow.analytics.kpis import Period
from rayflow.analytics.reports import Facts, Recommendation, build, recommend
from rayflow.analytics.reports import recommendations as rules
from rayflow.config.schema import Section, WorkflowConfig

DAY = Period(NOON.replace(day=20), NOON.replace(day=21))
AGENT = {
    "agent": "billing", "calls": 20, "errors": 0, "response_time": 100.0, "response_time_p95": 300.0,
    "queue_p95": 5.0, "accuracy": 0.9, "delegated": 0.0,
}  # fmt: skip
ACTOR = {"actor": "router/0", "deaths": 0, "restarts": 0, "parked": 0, "last_death": "exit code 137"}
ERROR = {"error": "model-timeout", "runs": 15, "message": "no answer in 60 s"}
ROUTE = {"strategy": "keyword", "runs": 20, "confidence": 0.9, "least_confidence": 0.1, "errors": 0}
POOL = {"agent": "billing", "grown": 0, "shrunk": 0, "smallest": 1, "largest": 4, "last_reason": ""}
MODELS = [{"model": "large", "calls": 20, "cost": 3.0}, {"model": "small", "calls": 90, "cost": 1.0}]
JOB = {"job_id": "job-1", "ok": 94, "failed": 6}


def facts(
    figures: dict[str, float] | None = None,
    before: dict[str, float] | None = None,
    unreadable: dict[str, str] | None = None,
    **tables: list[dict[str, Any]],
) -> Facts:
    return Facts(DAY, figures or {}, before or {}, tables, unreadable or {})


SPEAKS: list[tuple[Callable[[Facts], Iterator[Recommendation]], Facts, Facts, str]] = [
    (rules.damaged_files, facts(unreadable={"a.parquet": "torn"}), facts(), "a.parquet"),
    (
        rules.crashes,
        facts(supervision=[{**ACTOR, "deaths": 3}]),
        facts(supervision=[{**ACTOR, "deaths": 2}]),
        "3 times; the last time: exit code 137",
    ),
    (rules.crashes, facts(supervision=[{**ACTOR, "deaths": 1, "parked": 1}]), facts(), "once and stayed down"),
    (
        rules.failing_runs,
        facts({"runs": 100, "error_rate": 0.2}, errors=[ERROR]),
        facts({"runs": 100, "error_rate": 0.05}, errors=[ERROR]),
        "20.0 % of 100 runs failed, 15 with model-timeout: no answer in 60 s",
    ),
    (
        rules.failing_runs,
        facts({"runs": 20, "error_rate": 1.0}, errors=[{**ERROR, "error": "something-else"}]),
        facts({"runs": 19, "error_rate": 1.0}, errors=[ERROR]),
        "something-else",
    ),
    (
        rules.waiting_calls,
        facts(agents=[{**AGENT, "queue_p95": 1500.0}]),
        facts(agents=[{**AGENT, "queue_p95": 1000.0}, {**AGENT, "calls": 19, "queue_p95": 1500.0}]),
        "5 of 100 of its 20 calls waited longer than 1500 ms",
    ),
    (
        rules.slow_agents,
        facts(agents=[{**AGENT, "response_time": 6000.0}]),
        facts(agents=[{**AGENT, "response_time": 5000.0}, {**AGENT, "response_time": None}]),
        "6000 ms on average over 20 calls",
    ),
    (
        rules.slower_than_before,
        facts({"runs": 20, "response_time": 126.0}, {"runs": 20, "response_time": 100.0}),
        facts({"runs": 20, "response_time": 125.0}, {"runs": 20, "response_time": 100.0}),
        "126 ms on average, after 100 ms",
    ),
    (
        rules.slower_than_before,
        facts({"runs": 20, "response_time": 500.0}, {"runs": 20, "response_time": 100.0}),
        facts({"runs": 20, "response_time": 500.0}, {"runs": 19, "response_time": 100.0}),
        "500 ms",
    ),
    (rules.full_memory, facts({"memory_peak": 0.9}), facts({"memory_peak": 0.8}), "90.0 %"),
    (
        rules.unsure_routing,
        facts(routing=[{**ROUTE, "confidence": 0.4}]),
        facts(routing=[{**ROUTE, "confidence": 0.5}, {**ROUTE, "runs": 19, "confidence": 0.1}]),
        "a confidence of 0.40 on average over 20 runs",
    ),
    (
        rules.unhappy_users,
        facts({"user_satisfaction": 0.5, "opinions": 20}, agents=[AGENT, {**AGENT, "agent": "sales", "accuracy": 0.4}]),
        facts({"user_satisfaction": 0.6, "opinions": 20}),
        "a satisfaction of 50.0 % by 20 opinions; least accurate is sales with 40.0 %",
    ),
    (
        rules.unhappy_users,
        facts({"user_satisfaction": 0.5, "opinions": 20}),
        facts({"user_satisfaction": 0.1, "opinions": 19}),
        "20 opinions",
    ),
    (
        rules.restless_pools,
        facts(scaling=[{**POOL, "grown": 12, "shrunk": 10}]),
        facts(scaling=[{**POOL, "grown": 90, "shrunk": 9}]),
        "it grew 12 times and shrank 10 times, between 1 and 4 replicas",
    ),
    (
        rules.costly_model,
        facts(models=MODELS),
        facts(models=[{**MODELS[0], "cost": 1.0}, MODELS[1]]),
        "3.0000 USD of 4.0000 USD in 20 of 110 calls",
    ),
    (rules.costly_model, facts(models=MODELS), facts(models=[MODELS[0], {**MODELS[1], "cost": None}]), "3.0000 USD"),
    (
        rules.failing_batches,
        facts(batches=[JOB]),
        facts(batches=[{**JOB, "ok": 95, "failed": 5}, {**JOB, "ok": None, "failed": None}]),
        "6 of 100 items failed",
    ),
]


@pytest.mark.parametrize(("rule", "loud", "quiet", "evidence"), SPEAKS)
def test_a_rule_speaks_of_enough_and_is_silent_below(
    rule: Callable[[Facts], Iterator[Recommendation]], loud: Facts, quiet: Facts, evidence: str
) -> None:
    (said,) = rule(loud)
    assert evidence in said.evidence or evidence in said.title
    assert said.settings and said.sql.startswith("SELECT")
    assert list(rule(quiet)) == []


def test_every_rule_is_tested() -> None:
    assert {rule for rule, *_ in SPEAKS} == set(rules.RULES)


def test_without_facts_nothing_is_said() -> None:
    assert recommend(facts()) == []


def settings() -> set[str]:
    named = {key for rule, loud, *_ in SPEAKS for said in rule(loud) for key in said.settings}
    return named | {key for keys in rules.SETTINGS.values() for key in keys} | set(rules.OTHER_ERRORS)


@pytest.mark.parametrize("key", sorted(settings()))
def test_a_setting_that_is_named_exists(key: str) -> None:
    section: Any = WorkflowConfig
    for step in key.split("."):
        if step == "*" or step in ("billing", "sales"):
            continue
        assert step in section.model_fields, f"{key}: {section.__name__} has no {step}"
        section = _section_in(section.model_fields[step].annotation) or section


def _section_in(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    inner = getattr(annotation, "__args__", ())
    return next((found for each in inner if (found := _section_in(each)) is not None), None)


async def test_the_sql_of_what_is_said_runs_and_finds_something(tmp_path: Path) -> None:
    ask = asking(synthetic_log.write(tmp_path, synthetic_log.events()))
    report = await build(ask, DAY)
    assert len(report.recommendations) >= 8
    for said in report.recommendations:
        assert await ask(said.sql, {}), said.sql


def test_names_from_the_log_cannot_break_out_of_the_sql() -> None:
    (said,) = rules.crashes(facts(supervision=[{**ACTOR, "actor": "a' OR 1=1 --", "deaths": 9}]))
    assert "source = 'a'' OR 1=1 --'" in said.sql
