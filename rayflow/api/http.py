"""The HTTP service: routes put together, one ASGI application out.

FastAPI holds the routes and writes the OpenAPI document. The two routes that carry load decode and encode themselves,
and the edge calls them directly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp

from rayflow import __version__
from rayflow.analytics.analyst import Analyst
from rayflow.api.analytics import AnalyticsRoutes, add_analytics_routes
from rayflow.api.auth import ApiKeys
from rayflow.api.batches import Batches, add_batch_routes
from rayflow.api.caches import CacheRoutes, add_cache_routes
from rayflow.api.catalogue import Catalogue, Model, ModelList
from rayflow.api.chat import Chat
from rayflow.api.chat_answer import ChatAnswer
from rayflow.api.chat_request import ChatRequest
from rayflow.api.completion_answer import ChatCompletion
from rayflow.api.completion_request import ChatCompletionRequest
from rayflow.api.completions import ChatCompletions
from rayflow.api.decode import fault
from rayflow.api.docs_page import docs_page
from rayflow.api.edge import Edge
from rayflow.api.feedback import FeedbackRoutes, add_feedback_route
from rayflow.api.files import Files, add_file_routes
from rayflow.api.jobs import Jobs, add_job_routes
from rayflow.api.metrics import Metrics
from rayflow.api.openapi import DocumentedApi, answers, errors, events, request_body
from rayflow.api.performance import PerformanceRoutes, add_performance_routes
from rayflow.api.problems import MethodNotAllowed, UpgradeRequired
from rayflow.api.run_routes import RunRoutes, RunStatus
from rayflow.api.runs import Runs
from rayflow.api.session_routes import add_session_routes
from rayflow.api.sessions import Sessions
from rayflow.api.state_routes import add_state_routes
from rayflow.api.states import States
from rayflow.api.system import State, System
from rayflow.api.user_routes import add_user_routes
from rayflow.api.users import UserRoutes
from rayflow.api.websocket.handshake import PATH as SOCKETS
from rayflow.api.websocket.handshake import Handshake
from rayflow.app.build import events_folder
from rayflow.app.caches import CacheDesk
from rayflow.app.client import SystemClient
from rayflow.errors import NotFound

COMPLETIONS = "/v1/chat/completions"
CHAT = "/chat"


def create_app(
    client: SystemClient,
    *,
    metrics: Metrics | None = None,
    wake: Callable[[], None] = lambda: None,
    analyst: Analyst | None = None,
) -> ASGIApp:
    """The application of one ingress process. `metrics`: where it counts; its own registry by default. `wake`: called
    when a batch job waits for whoever runs them. `analyst`: who is asked about the log; one of its own by default."""
    config = client.config
    keys = ApiKeys.of(config)
    metrics = metrics or Metrics(config.name)
    monitoring = config.monitoring
    analyst = analyst or Analyst(events_folder(config), monitoring.sql_sandbox, monitoring.sql_at_once)
    catalogue = Catalogue(config, client.now_us() // 1_000_000)
    runs = Runs(client, metrics)
    completions, chat = ChatCompletions(runs, catalogue), Chat(runs, catalogue)

    api = DocumentedApi(
        title=config.name,
        version=__version__,
        description=config.description or f"The workflow {config.name}, served by rayflow.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: _raise_ours, RequestValidationError: _raise_ours, Exception: _raise_ours},
    )
    api.keyed = bool(keys)
    _add_openai_routes(api, completions, System(client, catalogue, metrics))
    _add_chat_route(api, chat)
    add_state_routes(api, States(client))
    add_session_routes(api, Sessions(client))
    add_user_routes(api, UserRoutes(client))
    add_cache_routes(api, CacheRoutes(CacheDesk(client), config.name))
    add_file_routes(api, Files(client))
    add_batch_routes(api, Batches(client, wake))
    add_job_routes(api, Jobs(client, wake))
    add_analytics_routes(api, AnalyticsRoutes(client, analyst))
    add_performance_routes(api, PerformanceRoutes(client, analyst))
    add_feedback_route(api, FeedbackRoutes(client, analyst, metrics))
    _add_run_routes(api, RunRoutes(runs, catalogue.workflow))
    _add_system_routes(api, System(client, catalogue, metrics))
    hot = {("POST", COMPLETIONS): completions.create, ("POST", CHAT): chat.send}
    return Edge(api, hot, Handshake(chat, keys, metrics), keys, metrics)


def _add_openai_routes(api: DocumentedApi, completions: ChatCompletions, system: System) -> None:
    api.route(
        "POST",
        COMPLETIONS,
        completions.create,
        "Answer a conversation, as JSON or as a stream of chunks",
        answers(200, "The answer.", ChatCompletion, openai=True, stream=True),
        request_body(ChatCompletionRequest),
    )
    api.route(
        "GET",
        "/v1/models",
        system.models,
        "The workflow and its agents as models",
        answers(200, "All models.", ModelList, openai=True),
    )
    api.route("GET", "/v1/models/{model_id}", system.model, "One model", answers(200, "The model.", Model, openai=True))


def _add_chat_route(api: DocumentedApi, chat: Chat) -> None:
    api.route(
        "POST",
        CHAT,
        chat.send,
        "Answer one message, as JSON or as a stream of events",
        answers(200, "The answer.", ChatAnswer, stream=True),
        request_body(ChatRequest),
    )
    api.route(
        "GET",
        SOCKETS,
        _upgrade,
        "Chat over a WebSocket, several messages and sessions at once",
        {101: {"description": "The connection is a WebSocket."}, **errors()},
    )


async def _upgrade() -> Response:
    raise UpgradeRequired("this route is for WebSockets: connect with a client of those")


def _add_run_routes(api: DocumentedApi, runs: RunRoutes) -> None:
    api.route(
        "POST",
        "/runs/{run_id}/cancel",
        runs.cancel,
        "Stop a run; what was shown of its answer stays in its session",
        answers(200, "It has ended.", RunStatus),
    )
    api.route(
        "GET",
        "/runs/{run_id}/events",
        runs.events,
        "The events of a streamed run, from the first one or after Last-Event-ID",
        events("As POST /chat streams them."),
    )


def _add_system_routes(api: DocumentedApi, system: System) -> None:
    api.route(
        "GET", "/healthz", system.healthz, "Whether this process is alive; needs no key", answers(200, "Alive.", State)
    )
    api.route(
        "GET", "/readyz", system.readyz, "Whether runs can be taken now; needs no key", answers(200, "Ready.", State)
    )
    api.route(
        "GET",
        "/metrics",
        system.expose,
        "Counters of this process for Prometheus",
        {200: {"description": "Text exposition format.", "content": {"text/plain": {}}}},
    )

    async def docs() -> Response:
        return docs_page(api.openapi())

    api.add_api_route("/docs", docs, include_in_schema=False, response_class=Response)


async def _raise_ours(request: Request, error: Exception) -> NoReturn:
    """Nothing is answered in here: the framework's refusals become ours, and the edge answers all errors alike."""
    match error:
        case HTTPException(status_code=404):
            raise NotFound("no such route; GET /docs lists them", kind="route")
        case HTTPException(status_code=405):
            allow = ", ".join(_methods(request))
            raise MethodNotAllowed(f"the route takes {allow}", allow=allow)
        case RequestValidationError():
            first = error.errors()[0]
            raise fault(".".join(str(step) for step in first["loc"][1:]), first["msg"])
        case _:
            raise error


def _methods(request: Request) -> list[str]:
    """All methods of the routes at this path."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    return sorted(
        {m for route in routes if route.matches(request.scope)[0] is not Match.NONE for m in route.methods or ()}
    )
