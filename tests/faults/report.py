"""What became of the load under one fault: the figures, and whether the promise was kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from faults.checker import Findings
from faults.fault import Fault
from faults.operations import Operation, Outcome
from faults.scene import Injection, Scene
from faults.watch import Footprint

AROUND_S = 5.0


def quantile(values: Iterable[float], q: float) -> float | None:
    """The smallest value that a share `q` of them does not exceed; None where there are none."""
    ordered = sorted(values)
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, max(0, -int(-q * len(ordered) // 1) - 1))], 3)


@dataclass(slots=True)
class Aftermath:
    """What was found when the load had ended."""

    findings: Findings
    strays: list[str]
    open_calls: int
    damaged_shards: list[str]
    recovered: bool
    before: Footprint
    after: Footprint


@dataclass(slots=True)
class Report:
    """Seconds, unless a name says otherwise."""

    fault: str
    promise: str
    injections: int
    requests: int
    acknowledged: int
    violations: dict[str, int]
    """The checker's: lost, duplicated, reordered, ..."""
    safe_errors: dict[str, int]
    """Requests that failed before the first byte of an answer, by status and code; excused ones are left out."""
    excused: dict[str, int]
    """Failures that the fault explains."""
    stream_errors: int
    stream_error_max_s: float | None
    """From the injection to the error event."""
    retried_connections: int
    repeated_calls: int
    """Calls upstream beyond the first for a question and agent."""
    open_calls: int
    healing_s: dict[str, float | None]
    latency_s: dict[str, float | None]
    rss_growth: float
    fds_growth: float
    notes: dict[str, object]
    examples: dict[str, list[str]]
    reasons: list[str] = field(default_factory=list)
    """Why it failed; empty where it passed."""

    @property
    def passed(self) -> bool:
        return not self.reasons

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "passed": self.passed}


@dataclass(frozen=True, slots=True)
class BrokenOff:
    """A run that never came to its report."""

    fault: str
    reasons: list[str]
    passed: bool = False

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def report(fault: Fault, scene: Scene, aftermath: Aftermath, retried: int) -> Report:
    operations = scene.load.operations
    excused: list[Operation] = []
    blamed: list[Operation] = []
    for operation in operations:
        if not operation.acknowledged:
            (excused if fault.excuses(operation, scene) else blamed).append(operation)
    cut = [o for o in blamed if o.outcome is Outcome.STREAM_ERROR]
    delays = _error_delays(cut, scene.injections, min((o.sent_s for o in operations), default=0.0))
    healing = [i.heal_s for i in scene.injections if i.heal_s is not None]
    first_s = min((i.at_s for i in scene.injections), default=float("inf"))
    made = Report(
        fault=fault.name,
        promise=fault.promise,
        injections=len(scene.injections),
        requests=len(operations),
        acknowledged=sum(o.acknowledged for o in operations),
        violations=aftermath.findings.counts(),
        safe_errors=_codes(o for o in blamed if o.outcome is not Outcome.STREAM_ERROR),
        excused=_codes(excused),
        stream_errors=len(delays),
        stream_error_max_s=round(max(delays), 3) if delays else None,
        retried_connections=retried,
        repeated_calls=sum(calls - 1 for calls in scene.system.upstream.calls.values()),
        open_calls=aftermath.open_calls,
        healing_s={"median": quantile(healing, 0.5), "p95": quantile(healing, 0.95), "max": quantile(healing, 1.0)},
        latency_s={
            **_latency("before", [o for o in operations if o.ended_s < first_s]),
            **_latency("around", [o for o in operations if _around(o, scene.injections)]),
        },
        rss_growth=_growth(aftermath.before.rss_mib, aftermath.after.rss_mib),
        fds_growth=_growth(aftermath.before.fds, aftermath.after.fds),
        notes=scene.notes,
        examples=aftermath.findings.examples(),
    )
    made.reasons = [*_reasons(made, fault, scene, aftermath, delays), *scene.problems]
    return made


def _reasons(made: Report, fault: Fault, scene: Scene, aftermath: Aftermath, delays: Sequence[float]) -> list[str]:
    reasons = []
    for kind, count in made.violations.items():
        if count and not (kind == "partial" and fault.allows_partial):
            reasons.append(f"{count} turns {kind}, as {made.examples[kind][0]!r}")
    for code, count in made.safe_errors.items():
        reasons.append(f"{count} visible errors where a retry is safe: {code}")
    if late := [delay for delay in delays if delay > fault.stream_error_s]:
        allowed = f"within {fault.stream_error_s:g} s" if fault.stream_error_s else "none"
        reasons.append(f"{len(late)} streams were cut up to {max(late):.1f} s after the fault; promised: {allowed}")
    if stuck := [i.victim for i in scene.injections if i.heals and i.heal_s is None]:
        reasons.append(f"did not heal: {', '.join(stuck)}")
    if slow := [i for i in scene.injections if i.heal_s is not None and i.heal_s > fault.heal_s]:
        worst = max(i.heal_s or 0.0 for i in slow)
        reasons.append(f"{len(slow)} times back only after more than {fault.heal_s:g} s, up to {worst:.1f} s")
    if len(scene.injections) < (1 if fault.name == "crash-loop" else scene.times):
        reasons.append(f"only {len(scene.injections)} of {scene.times} injections")
    if not aftermath.recovered:
        reasons.append("the system is not as it was")
    if aftermath.open_calls:
        reasons.append(f"{aftermath.open_calls} calls upstream are still open")
    if foreign := scene.system.upstream.foreign:
        reasons.append(f"{len(foreign)} contexts held messages of another session, as {foreign[0]!r}")
    if pending := sum(o.outcome is Outcome.PENDING for o in scene.load.operations):
        reasons.append(f"{pending} requests were never answered")
    return [*reasons, *aftermath.strays, *aftermath.damaged_shards]


def _codes(operations: Iterable[Operation]) -> dict[str, int]:
    return dict(Counter(f"{o.status or o.outcome} {o.code}" for o in operations))


def _error_delays(cut: Iterable[Operation], injections: Sequence[Injection], began_s: float) -> list[float]:
    """For each stream that was cut by an error event: seconds since the fault before it, or since the load began."""
    return [
        operation.ended_s - max((i.at_s for i in injections if i.at_s <= operation.ended_s), default=began_s)
        for operation in cut
    ]


def _around(operation: Operation, injections: Sequence[Injection]) -> bool:
    return any(i.at_s - AROUND_S / 10 <= operation.sent_s <= i.until_s + AROUND_S for i in injections)


def _latency(name: str, operations: Iterable[Operation]) -> dict[str, float | None]:
    took = [o.took_s for o in operations if o.acknowledged]
    return {f"{name}_p50": quantile(took, 0.5), f"{name}_p99": quantile(took, 0.99)}


def _growth(before: float, after: float) -> float:
    """As a share: 0.1 for a tenth more."""
    return round(after / before - 1, 3) if before else 0.0
