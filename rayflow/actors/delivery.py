"""How much of a part its client has. Tokens go there directly, so only the client knows."""

from __future__ import annotations

from rayflow.actors.work import Work
from rayflow.errors import DeadlineExceeded, PeerLost, UnknownAddress
from rayflow.messages import VoidAttempt, Voided
from rayflow.runtime.part import PartState
from rayflow.runtime.ports import Fabric

CLIENT_S = 1.0
"""How long a client may take to say what it has received."""


async def delivered(fabric: Fabric, work: Work, part: PartState, left_s: float) -> int | None:
    """How many pieces of this part its readers have; None where nobody says. Of the attempt that has failed the client
    takes no more."""
    if not work.run.tokens_to(part):
        return 0
    if work.followers:
        return None
    voided = await void(fabric, work, part, left_s)
    return None if voided is None else voided.delivered


async def void(fabric: Fabric, work: Work, part: PartState, left_s: float) -> Voided | None:
    """What the client has of this part. Where that is nothing, it takes no more of it. None: it does not say, or is not
    there; what it was given may be read on from somewhere else."""
    attempt = VoidAttempt(work.request.run_id, part.agent, work.run.attempt_number(part))
    try:
        voided: Voided = await fabric.ask(work.request.client, attempt, min(CLIENT_S, left_s))
    except (UnknownAddress, PeerLost, DeadlineExceeded):
        return None
    return voided
