"""What stays of an answer whose router died in the middle of it.

The router would have stored what was shown (`actors.remains`). Nobody but the client knows that now, so the client does
it, if it lives: it appends what it was given, marked partial, where the question of the run is the last turn of the
session still. Where a router has gone on with the session meanwhile, the partial answer would stand between others'
turns, and is left out. Where the dead router had stored the whole answer, that stands.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from rayflow.actors.persistence import died
from rayflow.actors.queue import forgetting, lasts
from rayflow.app.inbox import StreamItem
from rayflow.chat import Message, Usage
from rayflow.errors import Conflict, PeerLost, WorkflowError
from rayflow.messages import AppendTurns, GetHistory, History, Payload, Progress, RunRequest, Token, WriteRecords

log = logging.getLogger(__name__)

Forget = Callable[[WriteRecords], Awaitable[object]]
AskStore = Callable[[Payload, bool], Awaitable[Any]]
"""Asks the store of the session; whether the question may be asked again where nobody knows what became of it."""


async def keep(
    request: RunRequest, given: Sequence[StreamItem], outcome: object, ask: AskStore, forget: Forget
) -> None:
    """Store what was `given` of the answer, if the `outcome` is that the router died; then that error has it as
    `partial`, and the next router does not go on with it (`forget` writes that). What cannot be stored is lost, and
    logged."""
    if not (isinstance(outcome, PeerLost) and died(outcome)):
        return
    answer = shown(given)
    if not answer:
        return
    try:
        if lasts(request):
            await forget(forgetting(request.run_id))
        history: History = await ask(GetHistory(request.tenant, request.session_id, limit=1, tail=True), True)
        last = history.turns[-1] if history.turns else None
        if last is None or last.run_id != request.run_id or last.message.role == "assistant":
            return
        await ask(_append(request, answer, last.seq), True)
    except Conflict:
        return
    except WorkflowError as failure:
        log.warning("what was shown of run %s could not be stored: %s", request.run_id, failure)
        return
    outcome.details["partial"] = "".join(token.text for token in answer)


def shown(given: Sequence[StreamItem]) -> list[Token]:
    """The tokens that are the beginning of the answer. Of several agents that speak side by side, nobody's are."""
    tokens = [item for item in given if isinstance(item, Token)]
    routed = (item.event for item in given if isinstance(item, Progress) and item.event.kind == "run.routed")
    joined = any(len(event.data.get("agents", ())) > 1 for event in routed)
    return [] if joined or len({token.agent for token in tokens}) > 1 else tokens


def _append(request: RunRequest, answer: Sequence[Token], question: int) -> AppendTurns:
    """`question`: number of the last turn, after which the answer belongs."""
    return AppendTurns(
        tenant=request.tenant,
        session_id=request.session_id,
        messages=[Message("assistant", "".join(token.text for token in answer))],
        run_id=request.run_id,
        user_id=request.user_id,
        agent=answer[0].agent,
        expected_seq=question,
        partial=True,
        # Of the prompt, only the replica knew; a piece is a token, mostly.
        usage=Usage(0, sum(len(token.pieces) for token in answer), estimated=True),
    )
