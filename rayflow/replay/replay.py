"""Run recorded runs again, and write down what is different.

Sessions are replayed side by side, the runs of one session after each other, under their own ids. A run sees the
conversation as it was then: after each run its session is made to hold the recorded answer, whatever was answered now,
so that one changed answer does not change all that follow it (`cascade` lets it).
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rayflow.analytics.database import Log
from rayflow.app.attach import settled
from rayflow.app.client import SESSION_TIMEOUT_S, SystemClient
from rayflow.app.system import InProcessSystem
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import Conflict, NotFound, StorageError, Unavailable, WorkflowError
from rayflow.messages import AppendTurns, RollBackRun, RunRequest, RunResult
from rayflow.replay.diff import JUDGE, Again, Comparison, DiffFile, by_chance
from rayflow.replay.isolation import Models, isolated
from rayflow.replay.models import ROUTER, Heard, Record
from rayflow.replay.recorded import Recorded, select, sessions
from rayflow.replay.report import DIFF, Summary, summarise, write_queries
from rayflow.replay.stored import Stored

log = logging.getLogger(__name__)

AT_ONCE = 16
ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Choice:
    """Which runs: those that ended from `since` to before `until` (ISO 8601 with a zone), and of these the ones for
    which `where` holds (SQL over the view `runs`); of all that, `sample` of them, always the same ones."""

    since: str
    until: str
    where: str = ""
    sample: int | None = None


@dataclass(frozen=True)
class How:
    """`models`: who answers. `paced`: recorded answers take the time they took, so that latency can be compared.
    `cascade`: what is answered now is the history of what follows. `at_once`: sessions side by side."""

    models: Models = "recorded"
    paced: bool = False
    cascade: bool = False
    at_once: int = AT_ONCE


AS_RECORDED = How()


async def replay(
    recorded: Log,
    config: WorkflowConfig,
    out: Path,
    choice: Choice,
    how: How = AS_RECORDED,
    sessions_of: Callable[[], AbstractAsyncContextManager[SystemClient]] | None = None,
) -> Summary:
    """Replay the chosen runs of a log through the workflow `config` into the folder `out`, which must be new.

    `sessions_of`: opens the sessions that they belong to, to read what the log lacks; it is only called where something
    does. The folder gets `diff.parquet`, the event log of the replay and named queries. Nothing else is
    written, and nobody is told.

    Raises `NotFound` where no run is chosen, `Conflict` where `out` is in use, `ValidationError` for `choice.where`,
    `ConfigurationError`, `StorageError`.
    """
    table = await asyncio.to_thread(select, recorded, choice.since, choice.until, choice.where, choice.sample)
    if table.num_rows == 0:
        raise NotFound(
            f"no run to replay: none that ended from {choice.since} to before {choice.until}"
            + (f" and for which {choice.where}" if choice.where else ""),
            kind="run",
            id="",
        )
    _make(out)
    routing = Path(config.storage.state) / "routing"
    if routing.is_dir():  # what a classifier has learnt; the same material is not learnt twice
        shutil.copytree(routing, out / "routing")
    workflow = settled(isolated(config, how.models, out.absolute()), None)
    record = Record(workflow, how.models, paced=how.paced)
    async with AsyncExitStack() as stack:
        stored = None
        if sessions_of is not None and any(map(Stored.needed, sessions(table))):
            stored = await _stored(stack, sessions_of)
        system = await stack.enter_async_context(InProcessSystem(workflow, record.client))
        client = await system.client("replay")
        stack.callback(client.close)
        with DiffFile(out / DIFF) as diff:
            unjudged = how.models != "live" and config.aggregation.judge_model is not None
            await _Replay(client, workflow, record, how, stored, diff, unjudged=unjudged).all(sessions(table))
    write_queries(out)
    summary = await asyncio.to_thread(summarise, out, config.name, choice.since, choice.until, how.models)
    return msgspec.structs.replace(summary, unreadable={str(path): why for path, why in recorded.unreadable.items()})


async def _stored(
    stack: AsyncExitStack, sessions_of: Callable[[], AbstractAsyncContextManager[SystemClient]]
) -> Stored | None:
    try:
        return Stored(await stack.enter_async_context(sessions_of()))
    except (NotFound, Unavailable) as error:
        log.warning("texts that the log lacks stay unknown: %s", error)
        return None


def _make(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Conflict(f"{out} is there already: name a new folder with --out, or delete it", path=str(out))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise StorageError(f"the folder {out} cannot be made: {problem.strerror}", path=str(out)) from problem


class _Replay:
    """`unjudged`: the workflow has a judge of joined answers, who is not asked."""

    def __init__(
        self,
        client: SystemClient,
        config: WorkflowConfig,
        record: Record,
        how: How,
        stored: Stored | None,
        diff: DiffFile,
        *,
        unjudged: bool,
    ) -> None:
        self._client = client
        self._strategy = config.routing.strategy
        self._agents = {agent.name for agent in config.agents}
        self._record = record
        self._how = how
        self._stored = stored
        self._diff = diff
        self._compared = Comparison(config.monitoring, recorded=how.models == "recorded")
        self._unjudged = unjudged
        self._rows: list[dict[str, Any]] = []

    async def all(self, recorded: Iterator[list[Recorded]]) -> None:
        async def work() -> None:
            for runs in recorded:
                await self._session(runs)

        tasks = [asyncio.create_task(work()) for _ in range(self._how.at_once)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._write()

    async def _session(self, runs: list[Recorded]) -> None:
        held = 0
        if self._stored is not None and (earlier := await self._stored.complete(runs)):
            first = runs[0]
            await self._ask(AppendTurns(first.tenant, first.session_id, earlier, user_id=first.user_id))
            held = len(earlier)
        for run in runs:
            reason = run.left_out
            if run.chosen and not reason:
                again = await self._again(run, held)
                self._row(self._compared.row(run, again))
            else:
                if run.chosen:
                    self._row(self._compared.left_out(run, reason))
                await self._append(run)
            if run.turn is not None and run.messages is not None:
                held += len(run.messages) + (run.reply is not None)

    async def _again(self, run: Recorded, held: int) -> Again:
        """`held`: turns in its session."""
        pinned = by_chance(run) and run.strategy == self._strategy and self._agents.issuperset(run.agents)
        messages = run.messages or []
        request = RunRequest(
            run_id=run.run_id,
            session_id=run.session_id or f"of-{run.run_id}",
            messages=messages,
            tenant=run.tenant,
            user_id=run.user_id,
            agent=run.agents[0] if run.agents and (pinned or run.strategy == "named") else "",
            channel=run.channel,
            service_class=run.priority,
            stateless=run.turn is None,
            client=self._client.address if run.streamed else "",
            stream=run.streamed,  # what was streamed of several answers leads the one that is made of them
        )
        missing_turns = 0 if run.turn is None else max(0, run.turn - len(messages) - held)
        with self._record.replaying(run) as heard:
            try:
                result = await self._result(request)
            except WorkflowError as error:
                again = _failed(error, heard, request)
            else:
                again = self._answered(result, heard)
        if run.turn is not None and not self._how.cascade and (run.status, run.answer) != (again.status, again.answer):
            with suppress(NotFound):
                await self._ask(RollBackRun(run.tenant, run.session_id, run.run_id))
            await self._append(run)
        return again._replace(pinned=pinned, history_missing=missing_turns)

    async def _result(self, request: RunRequest) -> RunResult:
        if not request.stream:
            return await self._client.run(request)
        async with aclosing(self._client.stream(request)) as items:
            results = [item async for item in items if isinstance(item, RunResult)]
        return results[-1]

    def _answered(self, result: RunResult, heard: Heard) -> Again:
        """Of an answer that consists of nothing, because it is not recorded, only the routing is known."""
        known = not heard.missing
        told = sum(part.usage.prompt_tokens for part in result.parts)
        said = sum(part.usage.completion_tokens for part in result.parts)
        unjudged = self._unjudged and len(result.parts) > 1
        timed = known and (self._how.paced or self._how.models != "recorded")
        return Again(
            "ok",
            agents=None if ROUTER in heard.missing else [part.instead_of or part.agent for part in result.parts],
            strategy=result.strategy,
            confidence=result.confidence,
            answer=result.content if known else None,
            latency_ms=result.duration_ms if timed else None,
            prompt_tokens=told if known else None,
            completion_tokens=said if known else None,
            cost_usd=(result.cost_usd or 0.0) if known else None,
            missing=frozenset((*heard.missing, JUDGE) if unjudged else heard.missing),
        )

    async def _append(self, run: Recorded) -> None:
        """Make the session hold what it held then."""
        if run.turn is None or run.messages is None:
            return
        messages = [*run.messages, run.reply] if run.reply is not None else run.messages
        await self._ask(AppendTurns(run.tenant, run.session_id, messages, run.run_id, run.user_id))

    async def _ask(self, message: AppendTurns | RollBackRun) -> None:
        await self._client.fabric.ask(self._client.shards.addresses[0], message, SESSION_TIMEOUT_S)

    def _row(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) >= ROWS_AT_ONCE:
            self._write()

    def _write(self) -> None:
        if self._rows:
            self._diff.write(self._rows)
            self._rows = []


def _failed(error: WorkflowError, heard: Heard, request: RunRequest) -> Again:
    decision = heard.decision
    agents = list(decision.agents) if decision else [request.agent] if request.agent else None
    strategy, confidence = (decision.strategy, decision.confidence) if decision else ("", None)
    return Again("error", error.slug, agents, strategy, confidence, missing=frozenset(heard.missing))
