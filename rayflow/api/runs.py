"""Runs on behalf of HTTP clients: measured, cancelled with the client (or not), and streamed through an encoder.

A run is one sequence of events; each wire format is an encoder of it. The driver here knows no format,
the encoders know no sockets.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from rayflow.api.connection import connection_of
from rayflow.api.exchange import Exchange
from rayflow.api.guard import ClientGuard
from rayflow.api.metrics import Metrics, RunMeter
from rayflow.api.problems import ClientGone, explained
from rayflow.api.sse import EventStream
from rayflow.app.client import SystemClient
from rayflow.app.inbox import StreamItem
from rayflow.errors import ExecutionError, WorkflowError
from rayflow.events import Event
from rayflow.messages import Progress, RunRequest, RunResult, Token


class Encoder(Protocol):
    """One wire format of one run. Every method returns complete events of its format, or nothing."""

    def token(self, token: Token) -> bytes: ...

    def progress(self, event: Event) -> bytes: ...

    def result(self, result: RunResult) -> bytes:
        """All that is left to say. Raises `ExecutionError` when what was sent is not the answer."""
        ...

    def error(self, error: WorkflowError) -> bytes:
        """The run failed after the stream began: what is kept of its answer, and the error. Nothing follows."""
        ...


def rest(sent: str, content: str) -> str:
    """What of `content` the client has not got yet. Raises `ExecutionError` when it got something else."""
    if not content.startswith(sent):
        raise ExecutionError("the streamed text is not the beginning of the final answer; ask again")
    return content[len(sent) :]


def kept(sent: str, error: WorkflowError) -> str:
    """What the client has not got yet of the part of the answer that stays in the session."""
    partial = str(error.details.get("partial", ""))
    return partial[len(sent) :] if sent and partial.startswith(sent) else ""


@dataclass(frozen=True, slots=True)
class Runs:
    """Starts runs and counts them."""

    client: SystemClient
    metrics: Metrics
    uncounted: Metrics = field(default_factory=partial(Metrics, ""))
    """For reading runs along: they are counted where they were asked for."""

    async def complete(self, run: RunRequest, timeout_s: float | None, request: Request) -> RunResult:
        """The whole answer. Raises any `WorkflowError`; `ClientGone` when the client left before."""
        with ClientGuard(request.receive), self.metrics.run() as meter:
            result = await self.client.run(run, timeout_s)
            meter.finished(result)
            if "cache" in result.metadata:
                Exchange.of(request).cache = result.metadata["cache"]
            return result

    def stream(self, run: RunRequest, timeout_s: float | None, encoder: Encoder) -> RunStream:
        start = partial(self.client.batches, run, timeout_s)
        return RunStream(self.client.config.streaming.keepalive_s, run.run_id, start, encoder, self.metrics)

    def follow(self, run_id: str, tenant: str, session_id: str, encoder: Encoder) -> RunStream:
        """A run that was asked for before. Its client may come and go."""
        start = partial(self.client.follow, run_id, tenant, session_id)
        return RunStream(self.client.config.streaming.keepalive_s, run_id, start, encoder, self.uncounted)


class RunStream(Response):
    """A response that starts its run when it is sent, by calling `batches`. The result is only told when the answer is
    durable, so a stream that ends in good order was kept; one that fails half way ends with the format's error
    event."""

    def __init__(
        self,
        keepalive_s: float,
        run_id: str,
        batches: Callable[[], AsyncGenerator[list[StreamItem], None]],
        encoder: Encoder,
        metrics: Metrics,
    ) -> None:
        self.background = None
        self._keepalive_s = keepalive_s
        self._run_id = run_id
        self._batches = batches
        self._encoder = encoder
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with ClientGuard(receive) as guard, self._metrics.run() as meter:
            async with EventStream(send, self._keepalive_s, guard.drop, connection_of(scope)) as out:
                try:
                    await self._forward(out, meter, scope)
                except Exception as error:
                    if not out.started or isinstance(error, ClientGone):
                        raise
                    meter.failed(error)
                    await out.end(self._encoder.error(explained(error, self._run_id)))

    async def _forward(self, out: EventStream, meter: RunMeter, scope: Scope) -> None:
        """What comes together is written together: a write costs more than a token."""
        async with aclosing(self._batches()) as batches:
            async for batch in batches:
                events = b"".join([encoded(item, self._encoder, meter) for item in batch])
                if isinstance(batch[-1], RunResult):
                    if "cache" in batch[-1].metadata:  # told where nothing else was sent before, as of a kept answer
                        Exchange.of(scope).cache = batch[-1].metadata["cache"]
                    await out.end(events)
                elif events:
                    await out.write(events)


def encoded(item: StreamItem, encoder: Encoder, meter: RunMeter) -> bytes:
    """What a client is told of one item of its run, measured."""
    if isinstance(item, Token):
        meter.token()
        return encoder.token(item)
    if isinstance(item, Progress):
        return encoder.progress(item.event)
    meter.token()
    meter.finished(item)
    return encoder.result(item)
