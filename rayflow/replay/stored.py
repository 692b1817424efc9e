"""What the log does not say of runs, their sessions may: turns carry the id of the run that wrote them."""

from __future__ import annotations

from collections.abc import Sequence

from rayflow.app.client import SystemClient
from rayflow.chat import Message
from rayflow.errors import NotFound
from rayflow.messages import GetHistory, Turn
from rayflow.replay.recorded import Recorded, Said

PAGE = 500


class Stored:
    """The sessions of the recorded system; they are only read."""

    def __init__(self, client: SystemClient) -> None:
        self._client = client

    @staticmethod
    def needed(runs: Sequence[Recorded]) -> bool:
        """Whether something lacks of the runs of one session, oldest first, or of what was said before them."""
        return any(map(_lacks, runs)) or _begins_late(runs[0])

    async def complete(self, runs: Sequence[Recorded]) -> list[Message]:
        """Add to the runs of one session, oldest first, what lacks of their texts. Returns what was said before the
        first of them."""
        if not self.needed(runs):
            return []
        turns = await self._turns(runs[0].tenant, runs[0].session_id)
        by_run: dict[str, list[Turn]] = {}
        for turn in turns:
            by_run.setdefault(turn.run_id, []).append(turn)
        for run in runs:
            if _lacks(run) and run.run_id in by_run:
                _complete(run, by_run[run.run_id])
        known = {run.run_id for run in runs}
        first = next((turn.seq for turn in turns if turn.run_id in known), 0)
        return [turn.message for turn in turns if turn.seq < first]

    async def _turns(self, tenant: str, session_id: str) -> list[Turn]:
        turns: list[Turn] = []
        try:
            while True:
                after = turns[-1].seq if turns else 0
                page = await self._client.session(GetHistory(tenant, session_id, after=after, limit=PAGE))
                turns += page.turns
                if len(page.turns) < PAGE:
                    return turns
        except NotFound:  # it was deleted, or expired
            return turns


def _lacks(run: Recorded) -> bool:
    if run.turn is None:
        return False
    return run.messages is None or run.source == "redacted" or (run.status == "ok" and run.answer is None)


def _begins_late(run: Recorded) -> bool:
    """Whether something was said before the first run that the log has."""
    return run.turn is not None and run.messages is not None and run.turn > len(run.messages)


def _complete(run: Recorded, turns: Sequence[Turn]) -> None:
    answer = turns[-1] if run.status == "ok" and len(turns) > 1 else None
    asked = turns[:-1] if answer is not None else [turn for turn in turns if not turn.partial]
    if not asked or (run.status == "ok" and answer is None):
        return
    run.messages, run.source = [turn.message for turn in asked], "sessions"
    if answer is None:
        return
    run.reply, run.answer, run.answer_redacted = answer.message, answer.message.text, False
    if len(run.outcomes) == 1:
        (said,) = run.outcomes.values()
        if isinstance(said, Said):  # who answers alone says what the session has
            said.text, said.tool_calls = answer.message.text, answer.message.tool_calls or []
