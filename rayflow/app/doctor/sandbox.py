"""Check of what keeps SQL over HTTP from doing harm."""

from __future__ import annotations

from rayflow.analytics.analyst.confinement import LANDLOCK_NEEDED, TCP_VERSION, Offers, find_offers
from rayflow.app.doctor.finding import Finding

CHECK = "sql sandbox"


def sandbox(offers: Offers | None = None) -> Finding:
    offers = offers or find_offers()
    network = "no network" if offers.network else "network namespaces not permitted"
    if not offers.landlock:
        fix = (
            "SQL over HTTP is refused here; boot a kernel of 6.2 or later with landlock among its `lsm=`, or set "
            "monitoring.sql_sandbox: best_effort where all clients are trusted"
        )
        return Finding(CHECK, "warn", f"Landlock is not there or switched off, {network}", fix)
    found = f"Landlock version {offers.landlock}, {network}"
    if not offers.enough:
        fix = (
            f"SQL over HTTP is refused here: it needs Landlock version {LANDLOCK_NEEDED} with network namespaces, or "
            f"version {TCP_VERSION}; or set monitoring.sql_sandbox: best_effort where all clients are trusted"
        )
        return Finding(CHECK, "warn", found, fix)
    return Finding(CHECK, "ok", found)
