"""What happened, as typed rows.

Every actor hands `Event`s to the event log; a row of the log is one `Event`. Events of a run are numbered by `seq`
from 1; `(run_id, seq)` names a row, is the SSE id of a native stream and the order in the log. Tokens are events of the
stream (they take numbers) but are not logged one by one: the finish of an agent's part tells how many there were.

`EVENTS` is the list of all kinds; `docs/events.md` shows it as a table, and a test compares the two.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row of the log. Empty strings and Nones mean "does not apply".

    `ts_us`: microseconds since the epoch, UTC. All `_ms` fields are milliseconds.
    `data`: further JSON facts of this kind of event.
    """

    kind: str
    ts_us: int
    source: str = ""
    """Address of the actor that wrote it."""
    run_id: str = ""
    seq: int = 0
    workflow: str = ""
    agent: str = ""
    replica: str = ""
    model: str = ""
    tenant: str = ""
    user_id: str = ""
    session_id: str = ""
    channel: str = ""
    """How the run came in: chat (OpenAI route), native, batch, cli or python."""
    job_id: str = ""
    item_id: str = ""
    status: str = ""
    """ok, error or cancelled on the kinds that end something."""
    error: str = ""
    """Slug of the error (rayflow.errors)."""
    error_message: str = ""
    duration_ms: float | None = None
    queue_ms: float | None = None
    ttft_ms: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    confidence: float | None = None
    strategy: str = ""
    epoch: int = 0
    event_id: str = ""
    data: dict[str, Any] = {}


EVENTS: dict[str, str] = {
    "run.started": "A router took the run in. `channel`, `data.messages`.",
    "run.routed": "The routing policy chose. `strategy`, `confidence`, `data.agents`, `data.reason`.",
    "run.quarantined": "A message ended the replicas that worked on it. `agent`, `error_message`, `data.replicas`.",
    "agent.started": "A part was sent to a replica. `agent`, `replica`, `queue_ms`, `data.attempt`.",
    "agent.token": "Text of an agent's answer (streamed to clients, never logged).",
    "agent.retried": "A replica died or a model failed; once more. `replica`, `error`, `data.attempt`, `data.delay_s`.",
    "agent.fallback": "Another agent or model is asked. `error`, `data.agent`, `data.model` or `data.degraded`.",
    "agent.hedged": "A second replica is asked, because the first takes long. `replica`, `data.after_s`.",
    "agent.finished": "A part ended. `status`, `model`, `duration_ms`, `ttft_ms`, tokens, `data.attempt`.",
    "aggregate.finished": "The aggregator joined the parts. `strategy`, `duration_ms`, `data.parts`.",
    "context.built": "What models get of a long session has changed. `data.tokens`, `data.pieces`, `data.cached`.",
    "turn.committed": "A turn is durable. `data.role`, `data.turn`, `data.chars`, `data.partial`.",
    "run.finished": "The run ended: `status`, `error`, times, tokens; `data.rolled_back`, `data.cached`.",
    "session.created": "A session was made.",
    "session.deleted": "A session and all its turns were deleted.",
    "session.expired": "Sessions that nobody used any more were deleted. `data.sessions`.",
    "user.erased": "What a shard had of a user was deleted. `user_id`, `data.sessions`, `data.records`.",
    "memory.remembered": "Something is remembered of a user. `data.memories`, `data.superseded`, `data.evicted`.",
    "memory.dropped": "A turn is not remembered: too many others are being. `agent`.",
    "memory.forgotten": "Memories of a user were deleted by hand. `data.memories`.",
    "memory.consolidated": "Memories changed. `data.promoted`, `data.forgotten`, `data.facts`, `data.skills`.",
    "cache.invalidated": "Kept answers of a tenant were forgotten, or all. `tenant`, `agent`, `data.everything`.",
    "breaker.opened": "A model is not called for a while. `model`, `error`, `data.failures`, `data.open_s`.",
    "breaker.cooling": "An endpoint wants to be left alone (429). `model`, `data.wait_s`.",
    "breaker.closed": "A model is called again. `model`, `data.after_s`.",
    "actor.started": "An actor joined. `source` is its address, `data.pid`.",
    "actor.lost": "An actor died without being asked to. `error_message`.",
    "actor.restarted": "The coordinator started a lost actor again. `data.attempt`, `data.delay_s`.",
    "actor.parked": "An actor died too often and stays down. `data.restarts`.",
    "actor.stopped": "An actor stopped as asked.",
    "pool.scaled": "A pool grows or shrinks. `agent`, `strategy`, `data.reason`, `data.from`, `data.to`.",
    "system.started": "All actors are up. `duration_ms`, `data.timeline`.",
    "system.adopted": "A new coordinator found its actors. `duration_ms`, `data.alive` of `data.expected`.",
    "system.reconfigured": "All actors have the new configuration, or none. `status`, `duration_ms`, `data.replaced`.",
    "system.stopping": "Shutdown began. `data.reason`.",
    "batch.started": "A batch job began. `job_id`, `data.input`, `data.items`.",
    "batch.finished": "A batch job ended. `job_id`, `status`, `data.ok`, `data.failed`.",
}
