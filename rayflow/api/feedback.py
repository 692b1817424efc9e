"""What people think of answers, over HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from rayflow.analytics.analyst import Analyst
from rayflow.api.body import read_json
from rayflow.api.decode import convert
from rayflow.api.exchange import Exchange
from rayflow.api.headers import safe_id
from rayflow.api.metrics import Metrics
from rayflow.api.openapi import DocumentedApi, answers, request_body
from rayflow.api.responses import json_response
from rayflow.app.asked_log import of_analyst
from rayflow.app.client import SystemClient
from rayflow.app.feedback import FeedbackDesk, Opinion


@dataclass(frozen=True, slots=True)
class FeedbackRoutes:
    client: SystemClient
    analyst: Analyst
    metrics: Metrics

    async def give(self, request: Request) -> Response:
        exchange = Exchange.of(request)
        opinion = convert(await read_json(exchange.headers, request.receive, self.client.config.security), Opinion)
        for param in ("run_id", "session_id", "user_id"):
            if given := getattr(opinion, param):
                safe_id(given, param)
        # The tenant is a parameter of our own SQL, which is the same for all of them.
        desk = FeedbackDesk(self.client, of_analyst(self.analyst, "", {}))
        given = await desk.give(exchange.tenant, opinion)
        self.metrics.opinion(given.thumb)
        return json_response(given, status=201)


def add_feedback_route(api: DocumentedApi, feedback: FeedbackRoutes) -> None:
    api.route(
        "POST",
        "/feedback",
        feedback.give,
        "Say what an answer or a conversation was worth",
        answers(201, "As it is recorded.", Opinion),
        request_body(Opinion),
    )
