"""How a program's own workflow does: figures, past runs and what they cost, timed stretches, and tuning by itself.

What is asked here goes to the event log in the state folder, in a thread and with DuckDB: for programs, not for
processes that serve.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import msgspec

from rayflow.actors.outbox import EVENT_LOG
from rayflow.analytics import kpis
from rayflow.app.asked_log import rows_of
from rayflow.app.build import events_folder
from rayflow.app.client import SystemClient
from rayflow.app.reload import ask_coordinator
from rayflow.clock import SYSTEM_CLOCK
from rayflow.errors import Cancelled, Conflict, DeadlineExceeded, FabricError, to_info
from rayflow.events import Event
from rayflow.messages import FlushEvents

log = logging.getLogger(__name__)

FLUSH_S = 5.0
COSTLY_USD = 0.01
"""A run that costs more than this is warned of."""
SLOW_MS = 5000.0
FULL = 0.8
GROWTH = 1.5
TUNED_OVER = "5m"
FEWEST_CACHED = 10
"""Sessions whose context each router keeps at least."""


class Execution(msgspec.Struct, frozen=True):
    """One run that has ended. `metrics`: `duration_ms`, `prompt_tokens`, `completion_tokens` and `total_cost` (USD, of
    all calls of models; None where no model has a price)."""

    run_id: str
    ended: datetime
    workflow: str
    agents: list[str]
    session_id: str
    user_id: str
    tenant: str
    status: str
    error: str
    metrics: dict[str, float | None]


class Tracked:
    """A stretch that is being timed. `facts`: of one's own, kept with it as `data`."""

    def __init__(self, workflow: str) -> None:
        self.workflow = workflow
        self.facts: dict[str, Any] = {}
        self.duration_ms: float | None = None
        """Known when it is over."""


class Performance:
    """Of the workflow that `client` is a client of. What happened a second ago may not be in the log yet. Everything
    raises `Conflict` where `monitoring.event_log` is off."""

    def __init__(self, client: SystemClient) -> None:
        self._client = client

    async def metrics(self, since: str = "1h") -> dict[str, float | None]:
        """All figures of docs/reports.md by name; `avg_response_time` is another name of `response_time`. `since`: a
        span (`90m`, `1d`) or a time. Raises `ValidationError` for what is neither."""
        period = kpis.period(since, None, datetime.now(UTC))
        figures: dict[str, float | None] = {}
        for rows in await self._ask(period.params, *kpis.CATEGORIES):
            figures |= rows[0]
        return {**figures, "avg_response_time": figures["response_time"]}

    async def executions(self, agent: str = "", limit: int = 100) -> list[Execution]:
        """The last runs, the newest first; with `agent`, those in which it took part. Warns of each that was costly."""
        (rows,) = await self._ask({"agent": agent, "limit": limit}, "executions")
        found = [_execution(row) for row in rows]
        for execution in found:
            if (cost := execution.metrics["total_cost"] or 0.0) > COSTLY_USD:
                log.warning("run %s cost %.4f USD, more than %.2f", execution.run_id, cost, COSTLY_USD)
        return found

    @asynccontextmanager
    async def track(self, workflow: str) -> AsyncIterator[Tracked]:
        """Time a stretch of a program under a name. It stands among the workflows of reports; an exception makes it one
        that failed, and goes on."""
        self._need_log()
        tracked, begun = Tracked(workflow), SYSTEM_CLOCK.now()
        status, error = "ok", ""
        try:
            yield tracked
        except (asyncio.CancelledError, Cancelled):
            status, error = "cancelled", Cancelled.slug
            raise
        except BaseException as problem:
            status, error = "error", to_info(problem).slug
            raise
        finally:
            tracked.duration_ms = (SYSTEM_CLOCK.now() - begun) * 1000
            client = self._client
            event = Event(
                "workflow.tracked",
                client.now_us(),
                client.address,
                workflow=workflow,
                status=status,
                error=error,
                duration_ms=tracked.duration_ms,
                data=tracked.facts,
            )
            client.emit(event)

    async def tune(self) -> list[str]:
        """Look at the last minutes and do something about them: slow answers get more replicas, a full memory gets
        fewer cached sessions. Returns what was done."""
        metrics = await self.metrics(TUNED_OVER)
        done = []
        if (metrics["avg_response_time"] or 0.0) > SLOW_MS:
            await self._client.scale(GROWTH, "")
            done.append(f"scale_processing_capacity({GROWTH})")
        if (metrics["memory_usage"] or 0.0) > FULL and await self.shrink_context():
            done.append("optimize_context_management()")
        return done

    async def shrink_context(self) -> bool:
        """Halve the number of sessions whose context routers keep in memory, and keep long ones compressed. Routers are
        replaced one after the other, without failing a request. False where that is done already."""
        config = self._client.config
        before = config.context
        fewer = max(min(before.cached_sessions, FEWEST_CACHED), before.cached_sessions // 2)
        context = before.model_copy(update={"cached_sessions": fewer, "compression": True})
        if context == before:
            return False
        tuned = config.model_copy(update={"context": context})
        await ask_coordinator(self._client.fabric, tuned)
        self._client.config = tuned
        return True

    async def _ask(self, params: Mapping[str, Any], *names: str) -> list[list[dict[str, Any]]]:
        """The rows that files of `sql/kpis/` answer, all of the same moment."""
        from rayflow.analytics.database import open_log

        self._need_log()
        root = events_folder(self._client.config)
        with suppress(FabricError, DeadlineExceeded, TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await self._client.flush()
                await self._client.fabric.ask(EVENT_LOG, FlushEvents(), FLUSH_S)

        def answer() -> list[list[dict[str, Any]]]:
            root.mkdir(parents=True, exist_ok=True)  # its first events may still be on their way
            with open_log(root) as opened:
                return [rows_of(opened, kpis.kpi(name).sql, params) for name in names]

        return await asyncio.to_thread(answer)

    def _need_log(self) -> None:
        if not self._client.config.monitoring.event_log:
            raise Conflict("what has happened is in the event log: set monitoring.event_log")


def _execution(row: Mapping[str, Any]) -> Execution:
    numbers = ("duration_ms", "prompt_tokens", "completion_tokens", "total_cost")
    texts = {name: row[name] or "" for name in ("workflow", "session_id", "user_id", "tenant", "error")}
    return Execution(
        run_id=row["run_id"],
        ended=datetime.fromisoformat(row["ended"]),
        agents=row["agents"],
        status=row["status"],
        metrics={name: row[name] for name in numbers},
        **texts,
    )
