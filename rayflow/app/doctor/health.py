"""How soon the Ray cluster on this machine notices that a node is gone.

The GCS, on the head node, asks every node for a sign of life. A node that has failed to give it some times in a row is
dead, and only then do its actors start elsewhere. Ray's own settings are made for large clusters.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rayflow.app.doctor.finding import Finding
from rayflow.app.doctor.processes import PROC, ray_daemons, ray_settings

RAY_DEFAULTS = {"initial_delay_ms": 5000, "period_ms": 3000, "timeout_ms": 10_000, "failure_threshold": 5}
RAYFLOWS_OWN = {"initial_delay_ms": 0, "period_ms": 500, "timeout_ms": 1000, "failure_threshold": 3}
"""What rayflow sets for a cluster that it starts itself (`rayflow.cluster.ray_cluster`, which imports Ray)."""


def ray_health_checks(proc: Path = PROC) -> Finding:
    """Warns where the end of a node is noticed later than in a cluster that rayflow starts."""
    check = "ray health checks"
    daemons = ray_daemons(proc)
    heads = [daemon for daemon in daemons if daemon.name == "gcs_server"]
    if not heads:
        found = "the cluster's head node decides: run the doctor there" if daemons else "no Ray runs here"
        return Finding(check, "ok", found)
    known = [settings for head in heads if (settings := ray_settings(head, proc)) is not None]
    if not known:
        return Finding(check, "ok", "not known: the Ray here is another user's")
    killed_s, frozen_s = max(noticed_s(_health_checks(settings)) for settings in known)
    found = f"a killed node is noticed within {killed_s:g} s, a frozen one within {frozen_s:g} s"
    wanted_killed_s, wanted_frozen_s = noticed_s(RAYFLOWS_OWN)
    if killed_s <= wanted_killed_s and frozen_s <= wanted_frozen_s:
        return Finding(check, "ok", found)
    exports = " ".join(f"RAY_health_check_{name}={value}" for name, value in RAYFLOWS_OWN.items())
    return Finding(check, "warn", found, f"on the head node, before `ray start`: export {exports}")


def noticed_s(checks: Mapping[str, int]) -> tuple[float, float]:
    """Seconds until a node counts as dead, at most: a killed one refuses each check at once, a frozen one lets each run
    into its time-out."""
    period_ms, timeout_ms, threshold = checks["period_ms"], checks["timeout_ms"], checks["failure_threshold"]
    return threshold * period_ms / 1000, threshold * (period_ms + timeout_ms) / 1000


def _health_checks(settings: Mapping[str, str]) -> dict[str, int]:
    given = {name: settings.get(f"health_check_{name}", "") for name in RAY_DEFAULTS}
    return RAY_DEFAULTS | {name: int(value) for name, value in given.items() if value.isdecimal()}
