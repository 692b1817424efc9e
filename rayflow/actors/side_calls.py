"""Models that a router calls itself, to route, to summarise, to extract: their calls are events, too.

Such a call belongs to a run, but whoever makes it does not know that run: it is in the context of the task.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar

from rayflow.actors.work import Work
from rayflow.chat import ModelChunk, ModelReply, ModelRequest
from rayflow.clock import Clock
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import WorkflowError
from rayflow.events import Event
from rayflow.policies.prices import Entry, entry_of
from rayflow.runtime.ports import ModelClient

under_way: ContextVar[Work | None] = ContextVar("under_way", default=None)
"""The run that this task works on."""

Build = Callable[[], ModelClient]


class SideCalls:
    """`record` takes the events of a run."""

    def __init__(self, config: WorkflowConfig, record: Callable[[Work, Event], None], clock: Clock) -> None:
        self._config = config
        self._record = record
        self._clock = clock

    def of(self, build: Build | None, model: str | None, purpose: str) -> Build | None:
        """Makes the same client as `build`, one whose calls are events. `model`: the entry of `models` that it calls;
        `purpose`: what for, in a word."""
        if build is None or model is None:
            return build
        entry = entry_of(self._config.model(model))
        return lambda: _Told(build(), self, entry, purpose)

    def now(self) -> float:
        return self._clock.now()

    def ended(self, entry: Entry, purpose: str, outcome: ModelReply | WorkflowError | None, begun: float) -> None:
        """`outcome`: None where the call was cut."""
        work = under_way.get()
        if work is not None:
            took_s = self._clock.now() - begun
            self._record(work, work.run.side_call(entry, purpose, outcome, took_s, self._clock.wall_us()))


class _Told:
    """A `ModelClient` that tells how its whole answers went."""

    def __init__(self, model: ModelClient, calls: SideCalls, entry: Entry, purpose: str) -> None:
        self._model = model
        self._calls = calls
        self._entry = entry
        self._purpose = purpose
        self.stream: Callable[[ModelRequest], AsyncGenerator[ModelChunk, None]] = model.stream
        self.close = model.close

    async def complete(self, request: ModelRequest) -> ModelReply:
        begun = self._calls.now()
        outcome: ModelReply | WorkflowError | None = None
        try:
            outcome = await self._model.complete(request)
        except WorkflowError as error:
            outcome = error
            raise
        finally:
            self._calls.ended(self._entry, self._purpose, outcome, begun)
        return outcome
