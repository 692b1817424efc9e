"""How the workflow does, over HTTP: statistics, reports, alerts. A key of a tenant sees the runs of that tenant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from rayflow.actors.outbox import EVENT_LOG
from rayflow.analytics import kpis
from rayflow.analytics.analyst import Analyst
from rayflow.analytics.reports import Report, build, markdown, measured, page, text
from rayflow.api.body import read_body
from rayflow.api.exchange import Exchange
from rayflow.api.guard import ClientGuard
from rayflow.api.openapi import DocumentedApi, answers
from rayflow.api.performance_shapes import AlertList, AlertState, PerformanceStats
from rayflow.api.responses import Encoded, json_response
from rayflow.app.asked_log import of_analyst
from rayflow.app.client import SystemClient
from rayflow.errors import FabricError, Unavailable
from rayflow.messages import Alert, Alerts, GetAlerts

ALERTS_S = 5.0

Since = Annotated[str, Query(description="Where the period begins: a span such as 90m, 12h, 1d, 2w, or a time.")]
Until = Annotated[str, Query(description="Where it ends, likewise; now by default.")]
Compare = Annotated[Literal["previous", "none"], Query(description="With the period of the same length before it.")]
Form = Annotated[Literal["json", "html", "markdown", "text"], Query(description="How the report is written.")]


@dataclass(frozen=True, slots=True)
class PerformanceRoutes:
    client: SystemClient
    analyst: Analyst

    async def stats(self, request: Request, since: Since = "1d", until: Until = "") -> Response:
        period = kpis.period(since, until or None, datetime.now(UTC))
        ask = self._ask(request, {})
        with await self._while_connected(request):
            metrics = {
                name: {each.name: each.value for each in await measured(ask, name, period, compare=False)}
                for name in kpis.CATEGORIES
            }
            workflows = await ask(kpis.kpi("workflows").sql, period.params)
            steps = await ask(kpis.kpi(kpis.TREND).sql, period.params)
        length = (period.until - period.since) / kpis.STEPS
        stats = PerformanceStats(
            period.since,
            period.until,
            metrics["performance_metrics"]["response_time"],
            {row["workflow"]: row["runs"] for row in workflows},
            {row["workflow"]: row["success_rate"] for row in workflows},
            [{"at": period.since + length * step.pop("step"), **step} for step in steps],
            **metrics,
        )
        return json_response(stats)

    async def report(
        self,
        request: Request,
        since: Since = "1d",
        until: Until = "",
        compare: Compare = "previous",
        format: Form = "json",
    ) -> Response:
        period = kpis.period(since, until or None, datetime.now(UTC))
        left_out: dict[str, str] = {}
        ask = self._ask(request, left_out)
        with await self._while_connected(request):
            report = await build(ask, period, compare=compare == "previous", unreadable=lambda: left_out)
        match format:
            case "html":
                return Encoded(page.to_html(report).encode(), media_type="text/html; charset=utf-8")
            case "markdown":
                return Encoded(markdown.to_markdown(report).encode(), media_type="text/markdown; charset=utf-8")
            case "text":
                return Encoded(text.to_text(report).encode(), media_type="text/plain; charset=utf-8")
            case _:
                return json_response(report)

    def _ask(self, request: Request, left_out: dict[str, str]) -> kpis.Ask:
        return of_analyst(self.analyst, Exchange.of(request).tenant, left_out, self.client.config.monitoring)

    async def _while_connected(self, request: Request) -> ClientGuard:
        """Many questions to the log: who leaves ends them."""
        headers, most = Exchange.of(request).headers, self.client.config.security.max_body_bytes
        await read_body(headers, request.receive, most)  # there is none; what comes after it is the disconnect
        return ClientGuard(request.receive)

    async def alerts(self) -> Response:
        try:
            found: Alerts = await self.client.fabric.ask(EVENT_LOG, GetAlerts(), ALERTS_S)
        except FabricError as error:
            raise Unavailable("who watches is not there now: it lives in the event log", retry_after_s=1) from error
        return json_response(AlertList(list(map(_state, found.alerts))))


def _state(alert: Alert) -> AlertState:
    since = datetime.fromtimestamp(alert.since_us / 1e6, UTC) if alert.since_us else None
    return AlertState(alert.metric, alert.direction, alert.threshold, alert.window_s, alert.firing, alert.value, since)


def add_performance_routes(api: DocumentedApi, performance: PerformanceRoutes) -> None:
    api.route(
        "GET",
        "/performance/stats",
        performance.stats,
        "Execution times, counts, success rates, trends and figures of a period",
        answers(200, "The statistics.", PerformanceStats),
    )
    api.route(
        "GET",
        "/analytics/report",
        performance.report,
        "A report on a period: figures, tables, trend and recommendations",
        answers(200, "The report.", Report),
    )
    api.route("GET", "/alerts", performance.alerts, "How the alert rules stand", answers(200, "All rules.", AlertList))
