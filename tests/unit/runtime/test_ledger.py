"""What the coordinator knows survives it, and makes a supervisor again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from msgspec import structs

from rayflow.config.schema import WorkflowConfig
from rayflow.config.transfer import dump
from rayflow.errors import ConfigurationError, StorageError
from rayflow.messages import Endpoint, Join
from rayflow.runtime.configurations import Configurations
from rayflow.runtime.ledger import Holder, Knowledge, Ledger
from rayflow.runtime.recall import holders, revive
from rayflow.runtime.roster import roster
from rayflow.runtime.supervision.instructions import Kill, Spawn, Stop
from rayflow.runtime.supervision.supervisor import Supervisor
from rayflow.stores.record import MemoryRecord

CONFIG = WorkflowConfig.model_validate({"name": "team", "agents": [{"name": "a"}]})
JOIN = Join(Endpoint("agent/a/0", "unix:/a", 4, "node"), 17, "agent")
KNOWN = Knowledge(
    target=2,
    configs={1: dump(CONFIG), 2: dump(CONFIG)},
    stopping=True,
    epochs={"agent/a/0": 4},
    holders=[Holder("agent/a/0", 4, "agent", "ready", 1, 3, JOIN), Holder("agent/a/0", 5, "agent", "booting", 2)],
    guests=[Join(Endpoint("client/1", "unix:/c", 9), 18, "client", ready=True)],
    retired=["unix:/old"],
    version=77,
    sizes={"a": 3},
    spares=["agent/a/2"],
)


class WatchedRecord(MemoryRecord):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[tuple[set[str], set[str]]] = []
        self.full = False

    def write(self, changed: Mapping[str, bytes], gone: Iterable[str]) -> None:
        if self.full:
            raise StorageError("no space")
        self.writes.append((set(changed), set(gone)))
        super().write(changed, gone)


def test_what_is_written_is_read_again() -> None:
    record = MemoryRecord()
    Ledger(record).write(KNOWN)
    assert Ledger(record).read() == KNOWN


def test_before_a_launch_there_is_nothing_to_read() -> None:
    record = MemoryRecord()
    assert Ledger(record).read() is None
    Ledger(record).write(Knowledge())
    assert Ledger(record).read() is None


def test_only_what_changed_is_written() -> None:
    record = WatchedRecord()
    ledger = Ledger(record)
    ledger.write(KNOWN)
    ledger.write(KNOWN)
    after = structs.replace(KNOWN, epochs={"agent/a/0": 5}, holders=KNOWN.holders[:1])
    ledger.write(after)
    assert record.writes[1:] == [({"epoch/agent/a/0"}, {"holder/agent/a/0#5"})]


def test_what_could_not_be_written_is_written_the_next_time() -> None:
    record = WatchedRecord()
    ledger = Ledger(record)
    record.full = True
    with pytest.raises(StorageError):
        ledger.write(KNOWN)
    record.full = False
    ledger.write(KNOWN)
    assert Ledger(record).read() == KNOWN


def test_a_supervisor_that_was_written_down_comes_back() -> None:
    before = Supervisor(roster(CONFIG))
    for spec in (i.spec for i in before.start(0.0) if isinstance(i, Spawn)):
        before.joined(spec.address, 1, 0.0)
        before.ready(spec.address, 1, 0.0)
    known = Knowledge(1, {1: dump(CONFIG)}, epochs=before.epochs, holders=holders(before, lambda *_: None))
    after, _, todo = revive(known, Configurations(known.configs, 1), 0.0)
    assert todo == []
    assert {address: child.epoch for address, child in after.children.items()} == before.epochs
    assert {child.state for child in after.children.values()} == {"adopting"}
    assert holders(after, lambda *_: None) == known.holders, "a second restart in a row sees the same"


def test_a_handover_and_a_shutdown_that_were_under_way_are_taken_up() -> None:
    after, _, todo = revive(KNOWN, Configurations(KNOWN.configs, 2), 0.0)
    assert after.stopping
    assert todo == [Kill("agent/a/0", 5), Stop("agent/a/0", 4, 30.0)]


def test_configurations_are_numbered_and_forgotten_when_nobody_was_built_from_them() -> None:
    configs = Configurations()
    configs.target = configs.add(dump(CONFIG))
    second = configs.add(dump(CONFIG.model_copy(update={"version": "2"})))
    assert configs.current == CONFIG
    with pytest.raises(ConfigurationError, match="no valid configuration"):
        configs.add(b"{}")
    configs.target = second
    configs.settle({1})
    assert configs.json.keys() == {1, 2}
    configs.settle({2})
    assert configs.json.keys() == {2}
    assert configs.current.version == "2"
