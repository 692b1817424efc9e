"""The Python API: a workflow as an object.

async with Orchestrator.from_config("team.yaml") as o:
    result = await o.process_chat(message="Hello", user_id="ada")
    print(result.content, result.metadata, result.metrics)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rayflow.app.attach import open_configured, settled
from rayflow.app.client import SystemClient
from rayflow.chat import Message
from rayflow.config.load import from_dict, load
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import Unavailable
from rayflow.ids import new_run_id, new_session_id
from rayflow.messages import CreateSession, DeleteSession, RunRequest, RunResult, Token

if TYPE_CHECKING:
    from rayflow.app.working_state import WorkingState


@dataclass(frozen=True)
class ChatResult:
    """`metadata`: session, run, agents and routing. `metrics`: milliseconds and tokens."""

    content: str
    metadata: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


class Orchestrator:
    """Runs a workflow from Python. It joins the system that serves from the state folder, or starts its own.

    `config`: a loaded configuration or its plain data. `in_process`: all actors in this process instead of on Ray.
    `address`: a running Ray cluster to join.
    """

    def __init__(
        self, config: WorkflowConfig | Mapping[str, object], *, in_process: bool = False, address: str | None = None
    ) -> None:
        loaded = config if isinstance(config, WorkflowConfig) else from_dict(config)
        self.config = settled(loaded, None)
        self._in_process = in_process
        self._address = address
        self._stack: AsyncExitStack | None = None
        self._client: SystemClient | None = None

    @classmethod
    def from_config(cls, path: str | Path, *, in_process: bool = False, address: str | None = None) -> Self:
        """From a workflow file. Raises `ConfigurationError`."""
        return cls(load(path), in_process=in_process, address=address)

    async def initialize(self) -> None:
        """Start or join the system. `async with` does this. Raises `Unavailable`."""
        if self._stack is not None:
            return
        stack = AsyncExitStack()
        opened = open_configured(self.config, in_process=self._in_process, address=self._address)
        self._client = await stack.enter_async_context(opened)
        self._stack = stack

    async def shutdown(self) -> None:
        """Drain and stop what was started. May be called twice."""
        stack, self._stack, self._client = self._stack, None, None
        if stack is not None:
            await stack.aclose()

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    async def process_chat(self, message: str, user_id: str = "", session_id: str | None = None) -> ChatResult:
        """Run the workflow for one message. Without `session_id` a new conversation begins; its id is in
        `metadata["session_id"]`. Raises `WorkflowError`."""
        return _result(await self._running.run(self._request(message, user_id, session_id)))

    async def stream_chat(
        self, message: str, user_id: str = "", session_id: str | None = None
    ) -> AsyncIterator[str | ChatResult]:
        """The same in pieces of text; the last item is the `ChatResult`."""
        client = self._running
        sent = ""
        # Leaving early must end the run now, not when the garbage collector comes by.
        async with aclosing(client.stream(self._request(message, user_id, session_id, client.address))) as items:
            async for item in items:
                match item:
                    case Token():
                        sent += item.text
                        yield item.text
                    case RunResult():
                        if rest := item.content.removeprefix(sent):
                            yield rest
                        yield _result(item)

    async def create_session(self, user_id: str = "") -> str:
        """The id of a new, empty session."""
        info = await self._running.session(CreateSession("", new_session_id(), user_id))
        return info.session_id

    async def close_session(self, session_id: str) -> None:
        """Delete a session and its turns. Raises `NotFound`."""
        await self._running.session(DeleteSession("", session_id))

    def state(self, session_id: str) -> WorkingState:
        """The working state of a session: `await o.state(session_id).update({"stage": "paid"})`."""
        from rayflow.app.working_state import WorkingState

        return WorkingState(self._running, "", session_id, "python")

    async def scale_processing_capacity(self, factor: float, agent: str = "") -> dict[str, int]:
        """Multiply the replicas of one agent, or of all of them, by `factor`, rounded up and within their limits.
        Returns how many there will be, by agent. Raises `ValueError`, `NotFound`."""
        if not 0 < factor < float("inf"):
            raise ValueError(f"factor: expected a number above 0, got {factor}")
        return await self._running.scale(factor, agent)

    async def run_interactive_chat(self, user_id: str = "") -> None:
        """A chat in the terminal until the user leaves."""
        from rayflow.app.repl import Repl

        await Repl(self._running, user_id).loop()

    @property
    def _running(self) -> SystemClient:
        if self._client is None:
            raise Unavailable("the orchestrator is not running: use `async with` or call initialize() first")
        return self._client

    def _request(self, message: str, user_id: str, session_id: str | None, client: str = "") -> RunRequest:
        return RunRequest(
            run_id=new_run_id(),
            session_id=session_id or new_session_id(),
            messages=[Message("user", message)],
            user_id=user_id,
            new_session=session_id is None,
            client=client,
            stream=bool(client),
            channel="python",
        )


def _result(result: RunResult) -> ChatResult:
    return ChatResult(
        content=result.content,
        metadata={
            "run_id": result.run_id,
            "session_id": result.session_id,
            "agents": result.agents,
            "strategy": result.strategy,
            "confidence": result.confidence,
            "finish_reason": result.finish_reason,
            **result.metadata,
        },
        metrics={
            "duration_ms": result.duration_ms,
            "prompt_tokens": result.usage.prompt_tokens,
            "completion_tokens": result.usage.completion_tokens,
            "total_tokens": result.usage.total_tokens,
        },
    )
