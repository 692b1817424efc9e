"""The names that are pinned are those of OpenTelemetry."""

from __future__ import annotations

from opentelemetry.semconv._incubating.attributes import (
    error_attributes,
    gen_ai_attributes,
    host_attributes,
    service_attributes,
    user_attributes,
)
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.schemas import Schemas

from rayflow.analytics.telemetry import semconv
from rayflow.events import COLUMNS

KNOWN = {
    value
    for module in (
        gen_ai_attributes,
        gen_ai_metrics,
        error_attributes,
        host_attributes,
        service_attributes,
        user_attributes,
    )
    for name, value in vars(module).items()
    if name.isupper()
}
AHEAD = {semconv.WORKFLOW_DURATION, semconv.AGENT_DURATION}
"""Of the conventions' own repository; the package does not have them yet."""
EVENT_NAME = {"event.name"}
"""The name that a log record has; no attribute any more."""


def test_names_of_columns_are_known() -> None:
    names = {column.attribute for column in COLUMNS.values() if column.attribute}
    assert names - KNOWN - EVENT_NAME == set()


def test_other_names_are_known() -> None:
    names = {value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str)}
    assert {name for name in names if name.startswith(("gen_ai.", "error."))} - KNOWN == AHEAD


def test_operations_are_known() -> None:
    known = {each.value for each in gen_ai_attributes.GenAiOperationNameValues}
    assert {semconv.INVOKE_WORKFLOW, semconv.INVOKE_AGENT, semconv.CHAT} <= known


def test_the_version_is_that_of_the_package() -> None:
    assert Schemas.V1_44_0.value == semconv.SCHEMA_URL


def test_buckets_are_those_of_the_conventions() -> None:
    assert semconv.OPERATION_BUCKETS_S == (
        0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
    )  # fmt: skip
    assert (semconv.TOKEN_BUCKETS[:3], semconv.TOKEN_BUCKETS[-1]) == ((1, 4, 16), 67108864)
