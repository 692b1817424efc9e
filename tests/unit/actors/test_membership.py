"""The directory as the coordinator keeps it."""

from __future__ import annotations

from actor_doubles import settle

from rayflow.actors.membership import RETIRED, Membership
from rayflow.cluster.fabric.inprocess import InProcessFabric
from rayflow.messages import Directory, Endpoint, Join
from rayflow.runtime.roster import COORDINATOR, node_address


def join(address: str, epoch: int, role: str = "agent", endpoint: str = "") -> Join:
    return Join(Endpoint(address, endpoint or f"unix:/{address}.{epoch}", epoch, "node"), 1, role)


def addresses(membership: Membership) -> dict[str, int]:
    return {entry.address: entry.epoch for entry in membership.directory.entries}


def membership() -> Membership:
    return Membership(InProcessFabric(), 10)


async def test_a_child_is_listed_when_it_serves_and_its_process_before() -> None:
    m = membership()
    m.enter(join("agent/a/0", 1))
    assert addresses(m) == {COORDINATOR: 0, node_address("agent/a/0", 1): 1}
    m.show({"agent/a/0": 1})
    assert addresses(m)["agent/a/0"] == 1


async def test_in_a_handover_the_address_changes_hands_in_one_version() -> None:
    m = membership()
    m.enter(join("agent/a/0", 1))
    m.show({"agent/a/0": 1})
    m.enter(join("agent/a/0", 2))
    before = m.directory.version
    m.show({"agent/a/0": 2})
    assert (addresses(m)["agent/a/0"], m.directory.version) == (2, before + 1)
    assert node_address("agent/a/0", 1) in addresses(m), "it still finishes what it has in flight"
    m.show({"agent/a/0": 2})
    assert m.directory.version == before + 1, "nothing has changed"


async def test_a_guest_serves_at_once_and_takes_the_place_of_an_earlier_one_of_its_name() -> None:
    m = membership()
    m.enter(join("client/1", 1, "client"))
    m.enter(join("client/1", 2, "client"))
    m.show({})
    assert addresses(m) == {COORDINATOR: 0, "client/1": 2, node_address("client/1", 2): 2}
    m.leave("client/1", 1)
    assert addresses(m)["client/1"] == 2


async def test_endpoints_of_the_dead_are_retired_the_last_ones_only() -> None:
    m = membership()
    for epoch in range(RETIRED + 10):
        m.enter(join("agent/a/0", epoch))
        m.leave("agent/a/0", epoch)
    assert len(m.directory.retired) == RETIRED
    assert m.directory.retired[-1] == f"unix:/agent/a/0.{RETIRED + 9}"


async def test_an_endpoint_where_somebody_else_listens_is_not_retired() -> None:
    m = membership()
    m.enter(join("agent/a/0", 1, endpoint="inprocess:"))
    m.enter(join("agent/a/1", 1, endpoint="inprocess:"))
    m.leave("agent/a/0", 1)
    assert m.directory.retired == []


async def test_many_changes_of_one_turn_are_told_once_to_every_process() -> None:
    fabric = InProcessFabric()
    m = Membership(fabric, 10)
    told: list[Directory] = []
    fabric.bind(node_address("agent/a/0", 1), {Directory: told.append})
    m.enter(join("agent/a/0", 1))
    m.show({"agent/a/0": 1})
    await settle()
    assert told == [m.directory]
