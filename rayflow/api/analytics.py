"""SQL over HTTP. Whoever has a key may ask; the analyst's process sees to it that asking does no harm.

A tenant's key sees the rows of that tenant. A key of no tenant is the operator's: it sees all rows, also those of the
system itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from rayflow.analytics.analyst import Analyst, Answer, Limits, Question
from rayflow.analytics.named import named_queries, named_query
from rayflow.api.analytics_shapes import QueryList, SqlAnswer, SqlRequest, answer_of, query_of
from rayflow.api.body import read_json
from rayflow.api.decode import convert, fault
from rayflow.api.exchange import Exchange
from rayflow.api.guard import ClientGuard
from rayflow.api.openapi import DocumentedApi, answers, request_body
from rayflow.api.problems import RawHeaders
from rayflow.api.responses import Encoded, json_response
from rayflow.app.client import SystemClient

_MEDIA = {"arrow": "application/vnd.apache.arrow.stream", "csv": "text/csv; charset=utf-8; header=present"}


@dataclass(frozen=True, slots=True)
class AnalyticsRoutes:
    client: SystemClient
    analyst: Analyst

    async def query(self, request: Request) -> Response:
        exchange = Exchange.of(request)
        limits = self.client.config.security
        asked = convert(await read_json(exchange.headers, request.receive, limits), SqlRequest)
        question = self._question(asked, exchange.tenant)
        with ClientGuard(request.receive):
            answer = await self.analyst.ask(question)
        if asked.format == "json":
            return json_response(answer_of(answer))
        return Encoded(answer.body, _notes(answer), media_type=_MEDIA[asked.format])

    async def queries(self) -> Response:
        return json_response(QueryList([query_of(query) for query in named_queries().values()]))

    def _question(self, asked: SqlRequest, tenant: str) -> Question:
        """Raises `ValidationError`, and `NotFound` for a name that no query has."""
        if (asked.sql is None) == (asked.name is None):
            raise fault("sql", "give either `sql` or the `name` of a named query")
        sql, params = asked.sql or "", dict(asked.params)
        if asked.name is not None:
            query = named_query(asked.name, named_queries())
            sql = query.sql
            params = {**query.bind({name: str(value) for name, value in params.items()})}
        config = self.client.config.monitoring
        rows = min(asked.limit or config.sql_max_rows, config.sql_max_rows)
        limits = Limits(config.sql_timeout_s, config.sql_memory_bytes, rows, config.sql_max_bytes)
        return Question(sql, params, tenant, form=asked.format, limits=limits)


def _notes(answer: Answer) -> RawHeaders:
    """What the body has no place for."""
    notes = ((b"x-rayflow-truncated", answer.truncated), (b"x-rayflow-incomplete", answer.incomplete))
    return [(name, b"true") for name, holds in notes if holds]


def add_analytics_routes(api: DocumentedApi, analytics: AnalyticsRoutes) -> None:
    api.route(
        "POST",
        "/analytics/query",
        analytics.query,
        "Ask the event log: one SELECT, or a named query; JSON, CSV or an Arrow stream",
        answers(200, "The answer.", SqlAnswer),
        request_body(SqlRequest),
    )
    api.route(
        "GET",
        "/analytics/queries",
        analytics.queries,
        "The named queries with their parameters",
        answers(200, "All named queries.", QueryList),
    )
