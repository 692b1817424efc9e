"""A system behind the HTTP room that does exactly what a test says, with the surface of `SystemClient`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx2
import uvicorn
from starlette.types import ASGIApp

from rayflow.chat import FunctionCall, Message, ToolCall, Usage
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import Conflict, NotFound
from rayflow.events import Event
from rayflow.messages import (
    Ack,
    CreateSession,
    DeleteSession,
    GetHistory,
    GetSession,
    History,
    PartSummary,
    Progress,
    RunRequest,
    RunResult,
    SessionInfo,
    Token,
    Turn,
)

KEY = "rf_test_key_of_the_unit_tests"
NOW_US = 1_790_000_000_123_456


def config(**sections: Any) -> WorkflowConfig:
    """A workflow `team` of an agent `billing` on an endpoint and an agent `facts` on the offline model."""
    given = {
        "name": "team",
        "description": "Answers customers",
        "agents": [
            {"name": "billing", "model": "endpoint", "role": "Billing clerk"},
            {"name": "facts", "goal": "quote the handbook"},
        ],
        "models": [{"name": "endpoint", "provider": "openai", "base_url": "http://127.0.0.1:9/v1"}],
    }
    return WorkflowConfig.model_validate({**given, **sections})


def result(run: RunRequest, content: str = "Hello there.", **facts: Any) -> RunResult:
    given: dict[str, Any] = {
        "finish_reason": "stop",
        "usage": Usage(12, 5),
        "model": "upstream-model",
        "agents": ["billing"],
        "streamed": "billing",
        "strategy": "keyword",
        "turn": 2,
        "last_seq": 9,
        "duration_ms": 12.5,
        "parts": [PartSummary("billing", "ok", 11.0, 3.0, Usage(12, 5))],
    }
    return RunResult(run.run_id, run.session_id, content, **{**given, **facts})


def tool_result(run: RunRequest) -> RunResult:
    call = ToolCall("call_1", FunctionCall("get_order", '{"id": 7}'))
    return result(run, "", finish_reason="tool_calls", tool_calls=[call], streamed="")


Step = Token | Progress | RunResult | BaseException | asyncio.Event
Script = Callable[[RunRequest], list[Step]]


def hello(run: RunRequest) -> list[Step]:
    """Two tokens, then the result."""
    return [*tokens(run, "Hello", " there."), result(run)]


def tokens(run: RunRequest, *texts: str, agent: str = "billing") -> list[Step]:
    return [Token(run.run_id, seq, agent, [text]) for seq, text in enumerate(texts, 3)]


def routed(run: RunRequest) -> Progress:
    event = Event("run.routed", NOW_US, run_id=run.run_id, seq=2, strategy="keyword", confidence=0.8)
    return Progress(event)


class ScriptedClient:
    """Plays `script` for every run: a `Step` that is an `asyncio.Event` is waited for, an exception is raised."""

    def __init__(self, config: WorkflowConfig, script: Script = hello) -> None:
        self.config = config
        self.script = script
        self.address = "ingress/test"
        self.fabric = InProcessFabric()
        self.ready = True
        self.runs: list[RunRequest] = []
        self.timeouts: list[float | None] = []
        self.outlived: list[bool] = []
        """Whether the run was to go on without its client, by run."""
        self.stopped: list[tuple[str, str, str]] = []
        """Run, tenant and session of each cancellation."""
        self.followed: list[tuple[str, str, str]] = []
        self.waiting = asyncio.Event()
        """Set when a run has come to an event in its script."""
        self.cancelled = asyncio.Event()
        """Set when a run was cancelled."""
        self.sessions: dict[str, SessionInfo] = {}
        self.turns: dict[str, list[Turn]] = {}

    def now_us(self) -> int:
        return NOW_US

    async def run(self, request: RunRequest, timeout_s: float | None = None) -> RunResult:
        self.outlived.append(request.outlives)
        async for item in self.stream(request, timeout_s):
            if isinstance(item, RunResult):
                return item
        raise AssertionError("the script has no result")

    async def stream(
        self, request: RunRequest, timeout_s: float | None = None
    ) -> AsyncGenerator[Token | Progress | RunResult, None]:
        self.runs.append(request)
        self.timeouts.append(timeout_s)
        try:
            for step in self.script(request):
                if isinstance(step, asyncio.Event):
                    self.waiting.set()
                    await step.wait()
                elif isinstance(step, BaseException):
                    raise step
                else:
                    yield step
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise

    async def batches(
        self, request: RunRequest, timeout_s: float | None = None
    ) -> AsyncGenerator[list[Token | Progress | RunResult], None]:
        self.outlived.append(request.outlives)
        async with aclosing(self.stream(request, timeout_s)) as items:
            async for item in items:
                yield [item]

    async def follow(
        self, run_id: str, tenant: str, session_id: str = ""
    ) -> AsyncGenerator[list[Token | Progress | RunResult], None]:
        self.followed.append((run_id, tenant, session_id))
        for step in self.script(RunRequest(run_id, session_id or "sess_1", [])):
            if isinstance(step, BaseException):
                raise step
            assert not isinstance(step, asyncio.Event)
            yield [step]

    async def cancel(self, run_id: str, reason: str, tenant: str = "", session_id: str = "") -> None:
        self.stopped.append((run_id, tenant, session_id))
        if run_id.endswith("unknown"):
            raise NotFound(f"no run {run_id} is under way", kind="run", id=run_id)

    async def session(self, message: CreateSession | GetSession | GetHistory | DeleteSession) -> Any:
        known = self.sessions.get(message.session_id)
        if isinstance(message, CreateSession):
            if known is not None:
                raise Conflict(f"session {message.session_id} exists", id=message.session_id)
            info = SessionInfo(message.session_id, "", message.user_id, NOW_US, NOW_US, 0, message.metadata)
            self.sessions[message.session_id] = info
            return info
        if known is None:
            raise NotFound(f"there is no session {message.session_id}", kind="session", id=message.session_id)
        if isinstance(message, GetHistory):
            turns = [turn for turn in self.turns.get(message.session_id, []) if turn.seq > message.after]
            return History(known, turns[: message.limit])
        if isinstance(message, DeleteSession):
            del self.sessions[message.session_id]
            return Ack()
        return known

    def keep(self, session_id: str, *texts: str) -> None:
        """A session with these turns, user and assistant in turn."""
        roles = ("user", "assistant")
        self.sessions[session_id] = SessionInfo(session_id, "", "ann", NOW_US, NOW_US, len(texts))
        self.turns[session_id] = [
            Turn(seq, Message(roles[(seq - 1) % 2], text), f"run_{seq}", created_us=NOW_US)
            for seq, text in enumerate(texts, 1)
        ]


def in_memory(app: ASGIApp) -> httpx2.AsyncClient:
    """A client whose requests never touch a socket."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test")


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """The application on a real server; yields its base URL. It accepts from the start: the socket listens already."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=2))
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


class Wire:
    """One raw ASGI request: the body comes in these chunks, then nothing until `hang_up`; what is sent is kept."""

    def __init__(self, path: str, *chunks: bytes, headers: dict[str, str] | None = None, method: str = "POST") -> None:
        given = {"host": "test", "content-type": "application/json", **(headers or {})}
        self.scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "http_version": "1.1",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
        }
        self.reads = 0
        self.sent: list[dict[str, Any]] = []
        self.hang_up = asyncio.Event()
        self._chunks = list(chunks)
        self._progress = asyncio.Condition()

    async def receive(self) -> dict[str, Any]:
        self.reads += 1
        if self._chunks:
            chunk = self._chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(self._chunks)}
        await self.hang_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        async with self._progress:
            self._progress.notify_all()

    async def until(self, piece: bytes) -> None:
        """Wait until the answer so far contains `piece`."""
        async with self._progress:
            await self._progress.wait_for(lambda: piece in self.body)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])
