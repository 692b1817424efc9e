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
    """How many pieces of this part the client has; None where it does not say. Of the attempt that has failed it takes
    no more."""
    client = work.run.tokens_to(part)
    if not client:
        return 0
    void = VoidAttempt(work.request.run_id, part.agent, work.run.attempt_number(part))
    try:
        voided: Voided = await fabric.ask(client, void, min(CLIENT_S, left_s))
    except (UnknownAddress, PeerLost):
        return 0  # nobody is there who could have received anything
    except DeadlineExceeded:
        return None
    return voided.delivered
