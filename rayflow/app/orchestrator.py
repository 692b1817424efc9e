"""The Python API: a workflow as an object.

async with Orchestrator.from_config("team.yaml") as o:
    result = await o.process_chat(message="Hello", user_id="ada")
    print(result.content, result.metadata, result.metrics)
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rayflow.app.attach import open_configured, settled
from rayflow.app.client import SystemClient
from rayflow.app.many import Item, Outcome, failed, in_order, request_of, written
from rayflow.chat import Message
from rayflow.config.load import from_dict, load
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import Unavailable, WorkflowError
from rayflow.ids import new_run_id, new_session_id
from rayflow.messages import CreateSession, DeleteSession, RunRequest, RunResult, Token

if TYPE_CHECKING:
    from rayflow.app.performance import Execution, Performance, Tracked
    from rayflow.app.working_state import WorkingState

log = logging.getLogger(__name__)


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

    async def batch_process(self, items: Iterable[Item], concurrency: int = 10) -> list[Outcome]:
        """Run the workflow for each item, so many at a time: texts, or `{"message", "user_id"?, "session_id"?}`.

        Each has its outcome at its place: `{"input", "output", "metadata"}`, or `{"input", "error"}`; a failed item is
        not the end. They go behind interactive requests.
        """
        async with aclosing(in_order(items, self._item, max(1, concurrency))) as outcomes:
            return [outcome async for outcome in outcomes]

    async def process_items_batch(
        self,
        items: Iterable[Item],
        batch_size: int = 10,
        results_file: str | Path | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[Outcome]:
        """As `batch_process`, `batch_size` at a time. After each so many, the numbers of items that are done and of
        those that have failed are logged and told to `on_progress`. `results_file`: gets each outcome as a line of JSON
        as soon as all before it are there."""
        found: list[Outcome] = []
        failures = 0
        with written(Path(results_file) if results_file is not None else None) as write:
            async with aclosing(in_order(items, self._item, max(1, batch_size))) as outcomes:
                async for outcome in outcomes:
                    found.append(outcome)
                    failures += "error" in outcome
                    write(outcome)
                    if len(found) % batch_size == 0:
                        log.info("%d items done, %d of them failed", len(found), failures)
                        if on_progress is not None:
                            on_progress(len(found), failures)
        if len(found) % batch_size and on_progress is not None:
            on_progress(len(found), failures)
        return found

    async def _item(self, item: Item) -> Outcome:
        try:
            result = _result(await self._running.run(request_of(item)))
        except WorkflowError as error:
            return failed(item, error)
        return {"input": item, "output": result.content, "metadata": {**result.metadata, "metrics": result.metrics}}

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

    async def get_performance_metrics(self, since: str = "1h") -> dict[str, float | None]:
        """The figures of docs/reports.md by name, over the time since `since` (`90m`, `1d`, or a time); also
        `avg_response_time`. Raises `ValidationError`, and `Conflict` where there is no event log."""
        return await self._performance.metrics(since)

    async def get_executions(self, agent_name: str = "", limit: int = 100) -> list[Execution]:
        """The last runs, the newest first; with a name, those in which that agent took part. What a run cost is its
        `metrics["total_cost"]`; above 0.01 USD it is warned of."""
        return await self._performance.executions(agent_name, limit)

    def track_workflow(self, name: str) -> AbstractAsyncContextManager[Tracked]:
        """Time a stretch of your program: `async with o.track_workflow("nightly"): ...`. It stands in reports among the
        workflows."""
        return self._performance.track(name)

    async def optimize_context_management(self) -> bool:
        """Halve the number of sessions whose context is kept in memory, without failing a request. False where it is
        at its smallest already."""
        return await self._performance.shrink_context()

    async def tune(self) -> list[str]:
        """Look at the last five minutes: answers slower than 5 s on average bring half as many replicas again, a memory
        that is more than four fifths full has `optimize_context_management` called. Returns what was done."""
        return await self._performance.tune()

    async def run_interactive_chat(self, user_id: str = "") -> None:
        """A chat in the terminal until the user leaves."""
        from rayflow.app.repl import Repl

        await Repl(self._running, user_id).loop()

    @property
    def _performance(self) -> Performance:
        from rayflow.app.performance import Performance

        return Performance(self._running)

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
