"""What people think of answers: whose answer it is about is checked, then it becomes an event.

An opinion is never changed or deleted. Of several that one user has given on one answer, the last one counts, so giving
one again is harmless, and changing one's mind is giving another one.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import msgspec

from rayflow.analytics.kpis import Ask, kpi
from rayflow.app.client import SystemClient
from rayflow.errors import Conflict, NotFound, ValidationError
from rayflow.events import Event
from rayflow.messages import GetSession
from rayflow.policies.redaction import redactor

COMPLETION = "chatcmpl-"
"""Before the id of a run, this makes the id of its chat completion."""
FRESH_S = 1.5
"""An answer that has just been given may not be in the log yet."""
MOST_CHARS = 4000

Thumb = Literal["up", "down"]
THUMBS: dict[Thumb, float] = {"up": 1.0, "down": -1.0}


class Opinion(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """About a run, or about a session as a whole. `run_id`: also the id of a chat completion. `score`: from -1 (of no
    use) to 1 (just right); a thumb alone is the one or the other. `user_id`: who says it; the run's user by default."""

    run_id: str = ""
    session_id: str = ""
    user_id: str = ""
    thumb: Thumb | None = None
    score: Annotated[float, msgspec.Meta(ge=-1, le=1)] | None = None
    comment: Annotated[str, msgspec.Meta(max_length=MOST_CHARS)] = ""


class FeedbackDesk:
    """`ask`: the log."""

    def __init__(self, client: SystemClient, ask: Ask) -> None:
        self._client = client
        self._ask = ask

    async def give(self, tenant: str, opinion: Opinion) -> Opinion:
        """Record it. Returns it as it is recorded: with the session of the run, and the score of the thumb.

        Raises `ValidationError` for one that says nothing or two things, `NotFound` where the tenant has no such run or
        session, `Conflict` where there is no event log.
        """
        if not self._client.config.monitoring.event_log:
            raise Conflict("feedback is kept in the event log: set monitoring.event_log")
        score = _score(opinion)
        run_id = opinion.run_id.removeprefix(COMPLETION)
        agents: list[str] = []
        session_id, user_id = opinion.session_id, opinion.user_id
        if run_id:
            run = await self._run(tenant, run_id)
            if session_id and session_id != run["session_id"]:
                raise ValidationError(f"session_id: run {run_id} is not of this session", param="session_id")
            session_id, agents = run["session_id"] or "", run["agents"]
            user_id = user_id or run["user_id"] or ""
        elif session_id:
            info = await self._client.session(GetSession(tenant, session_id))
            user_id = user_id or info.user_id
        else:
            raise ValidationError("run_id: say which run or session it is about", param="run_id")
        comment = redactor(self._client.config.monitoring).redact(opinion.comment).text if opinion.comment else ""
        given = Opinion(run_id, session_id, user_id, opinion.thumb, score, comment)
        self._client.emit(self._event(tenant, given, agents))
        return given

    async def _run(self, tenant: str, run_id: str) -> dict[str, Any]:
        for wait_s in (FRESH_S, 0.0):
            rows = await self._ask(kpi("run_owner").sql, {"run_id": run_id, "tenant": tenant})
            if rows:
                return rows[0]
            await asyncio.sleep(wait_s)
        raise NotFound(f"there is no run {run_id} that has ended", kind="run", id=run_id)

    def _event(self, tenant: str, given: Opinion, agents: list[str]) -> Event:
        facts = {"thumb": given.thumb, "comment": given.comment}
        return Event(
            "feedback.given",
            self._client.now_us(),
            self._client.address,
            workflow=self._client.config.name,
            run_id=given.run_id,
            session_id=given.session_id,
            user_id=given.user_id,
            tenant=tenant,
            agent=agents[0] if len(agents) == 1 else "",
            score=given.score,
            data={name: fact for name, fact in facts.items() if fact},
        )


def _score(opinion: Opinion) -> float | None:
    if opinion.thumb is None:
        if opinion.score is None and not opinion.comment.strip():
            raise ValidationError("score: give a thumb, a score or a comment", param="score")
        return opinion.score
    by_thumb = THUMBS[opinion.thumb]
    if opinion.score is not None and opinion.score * by_thumb < 0:
        raise ValidationError(f"score: {opinion.score:g} contradicts a thumb {opinion.thumb}", param="score")
    return by_thumb if opinion.score is None else opinion.score
