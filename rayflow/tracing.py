"""Names of spans, and which runs are traced.

A span is never made while a run works: what it would say, the event log says, and the export derives it from there.
But whoever is called on the way must be told the name of the span that calls. So names are not drawn but derived: from
the run, the agent, the attempt and the replica, which both the one who calls and the log know.
"""

from __future__ import annotations

from hashlib import blake2b

START_OF_RANGE = 1 << 64


class Tracing:
    """The sampler that OpenTelemetry has by default: what a client decided for its trace holds for its runs, and of all
    other runs a share is traced. `ratio`: that share; who has the trace id knows whether it is in it."""

    def __init__(self, ratio: float) -> None:
        self._bound = round(ratio * START_OF_RANGE)

    def begin(self, parent: str, run_id: str, attempt: int) -> tuple[str, str]:
        """The `traceparent` that a run hangs on, and its own for whoever it calls. `parent`: that of its request; where
        there was none, a trace begins here, and the first has an empty span id. `attempt`: of the run."""
        if not parent:
            trace_id = blake2b(run_id.encode(), digest_size=16).hexdigest()
            sampled = int(trace_id[16:], 16) < self._bound
            parent = f"00-{trace_id}--{sampled:02x}"
        return parent, child(parent, run_span(run_id, attempt))


def child(traceparent: str, span: str) -> str:
    """The same trace, seen from this span of it."""
    _, trace_id, _, flags, *_ = traceparent.split("-")
    return f"00-{trace_id}-{span}-{flags}"


def is_sampled(traceparent: str) -> bool:
    return int(traceparent.split("-")[3], 16) & 1 == 1


def run_span(run_id: str, attempt: int) -> str:
    """`attempt`: how often the run was asked for before."""
    return _span(run_id, str(attempt))


def agent_span(run_id: str, attempt: int, agent: str) -> str:
    """Of all that an agent does for its part of a run."""
    return _span(run_id, str(attempt), agent)


def call_span(run_id: str, agent: str, attempt: int, replica: str) -> str:
    """Of one call of a model. `attempt`: of the part, counted over all attempts of the run."""
    return _span(run_id, agent, str(attempt), replica)


def other_span(event_id: str) -> str:
    """Of what calls nobody, so that only its event needs to know its name."""
    return _span(event_id)


def _span(*names: str) -> str:
    return blake2b("\0".join(names).encode(), digest_size=8).hexdigest()
