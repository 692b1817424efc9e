"""All faults, by name, in the order in which they run."""

from __future__ import annotations

from faults.changes import CHANGES
from faults.databases import DATABASES
from faults.endpoints import ENDPOINTS
from faults.fault import Fault
from faults.hangs import HANGS
from faults.kills import KILLS

FAULTS: dict[str, Fault] = {fault.name: fault for fault in (*KILLS, *HANGS, *CHANGES, *ENDPOINTS, *DATABASES)}
