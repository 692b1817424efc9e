"""All faults and trials, by name, in the order in which they run."""

from __future__ import annotations

from faults.batches import BatchKills, FedBatchKills
from faults.changes import CHANGES
from faults.databases import DATABASES
from faults.disconnects import Disconnects
from faults.endpoints import ENDPOINTS
from faults.fault import Fault
from faults.hangs import HANGS
from faults.idempotency import Idempotency
from faults.kills import KILLS
from faults.mixed import Mixed
from faults.multitask import MULTITASK
from faults.orphans import Orphans
from faults.queued import Queued
from faults.resumptions import Resumptions
from faults.trial import Trial

FAULTS: dict[str, Fault] = {fault.name: fault for fault in (*KILLS, *HANGS, *CHANGES, *ENDPOINTS, *DATABASES)}

ALONE = (Idempotency(), Disconnects(), Resumptions(), Orphans(), BatchKills(), FedBatchKills(), Mixed(), Queued())
TRIALS: dict[str, Trial] = {trial.name: trial for trial in (*MULTITASK, *ALONE)}
