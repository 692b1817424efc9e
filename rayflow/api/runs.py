"""Runs on behalf of HTTP clients: measured, cancelled with the client, and streamed through an encoder.

A run is one sequence of events; each wire format is an encoder of it. The driver here knows no format,
the encoders know no sockets.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from rayflow.api.guard import ClientGuard
from rayflow.api.metrics import Metrics, RunMeter
from rayflow.api.problems import explained
from rayflow.api.sse import EventStream
from rayflow.app.client import SystemClient
from rayflow.app.inbox import StreamItem
from rayflow.errors import ExecutionError, WorkflowError
from rayflow.events import Event
from rayflow.messages import Progress, RunRequest, RunResult, Token


class Encoder(Protocol):
    """One wire format of one run. Every method returns complete server-sent events, or nothing."""

    def token(self, token: Token) -> bytes: ...

    def progress(self, event: Event) -> bytes: ...

    def result(self, result: RunResult) -> bytes:
        """All that is left to say. Raises `ExecutionError` when what was sent is not the answer."""
        ...

    def error(self, error: WorkflowError) -> bytes:
        """The run failed after the stream began; nothing follows."""
        ...


def rest(sent: str, content: str) -> str:
    """What of `content` the client has not got yet. Raises `ExecutionError` when it got something else."""
    if not content.startswith(sent):
        raise ExecutionError("the streamed text is not the beginning of the final answer; ask again")
    return content[len(sent) :]


@dataclass(frozen=True, slots=True)
class Runs:
    """Starts runs and counts them."""

    client: SystemClient
    metrics: Metrics

    async def complete(self, run: RunRequest, timeout_s: float | None, request: Request) -> RunResult:
        """The whole answer. Raises any `WorkflowError`; `ClientGone` when the client left before."""
        with ClientGuard(request.receive), self.metrics.run() as meter:
            result = await self.client.run(run, timeout_s)
            meter.finished(result)
            return result

    def stream(self, run: RunRequest, timeout_s: float | None, encoder: Encoder) -> RunStream:
        return RunStream(self, run, timeout_s, encoder)


class RunStream(Response):
    """A response that starts its run when it is sent. The result is only told when the answer is durable, so a stream
    that ends in good order was kept; one that fails half way ends with the format's error event."""

    def __init__(self, runs: Runs, run: RunRequest, timeout_s: float | None, encoder: Encoder) -> None:
        self._runs = runs
        self._run = run
        self._timeout_s = timeout_s
        self._encoder = encoder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        keepalive_s = self._runs.client.config.streaming.keepalive_s
        with ClientGuard(receive) as guard, self._runs.metrics.run() as meter:
            async with EventStream(send, keepalive_s, guard.drop) as out:
                try:
                    await self._forward(out, meter)
                except Exception as error:
                    if not out.started:
                        raise
                    meter.failed(error)
                    await out.end(self._encoder.error(explained(error, self._run.run_id)))

    async def _forward(self, out: EventStream, meter: RunMeter) -> None:
        """What comes together is written together: a write costs more than a token."""
        async with aclosing(self._runs.client.batches(self._run, self._timeout_s)) as batches:
            async for batch in batches:
                events = b"".join([self._encode(item, meter) for item in batch])
                if isinstance(batch[-1], RunResult):
                    await out.end(events)
                elif events:
                    await out.write(events)

    def _encode(self, item: StreamItem, meter: RunMeter) -> bytes:
        if isinstance(item, Token):
            meter.token()
            return self._encoder.token(item)
        if isinstance(item, Progress):
            return self._encoder.progress(item.event)
        meter.token()
        meter.finished(item)
        return self._encoder.result(item)
