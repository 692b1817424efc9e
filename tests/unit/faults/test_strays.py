from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import psutil
from faults.watch import Actor, Snapshot, strays


@dataclass
class Process:
    pid: int
    line: str
    state: str = psutil.STATUS_SLEEPING

    def cmdline(self) -> list[str]:
        return self.line.split()

    def status(self) -> str:
        return self.state


AGENT = Actor("agent/alpha/0", "agent", "ready", 11)
INGRESS = Actor("ingress/0", "ingress", "ready", 12)
FAMILY = [
    Process(10, "python -m rayflow serve"),
    Process(11, "ray::Agent.run"),
    Process(12, "python -m rayflow.api.ingress 10 /tmp/x 0 127.0.0.1 8080"),
    Process(13, "ray::IDLE"),
]


def found(actors: list[Actor], family: list[Process]) -> list[str]:
    return strays(Snapshot("ready", {actor.address: actor for actor in actors}), cast(Any, family))


def test_a_family_that_is_the_status_has_no_strays() -> None:
    assert found([AGENT, INGRESS], FAMILY) == []


def test_a_second_process_of_an_address_is_a_stray() -> None:
    assert found([AGENT, INGRESS], [*FAMILY, Process(14, "ray::Agent.run")]) == [
        "ray::Agent (pid 14) is not in the status"
    ]


def test_an_actor_without_a_process_is_told() -> None:
    assert found([AGENT, INGRESS, replace(AGENT, address="agent/alpha/1", pid=99)], FAMILY) == [
        "agent/alpha/1 (pid 99) does not live"
    ]


def test_one_process_for_two_addresses_is_told() -> None:
    assert found([AGENT, INGRESS, replace(AGENT, address="agent/alpha/1")], FAMILY) == ["pid 11 has 2 addresses"]


def test_parked_actors_need_no_process_and_zombies_are_none() -> None:
    parked = [replace(AGENT, address=f"agent/alpha/{i}", state="parked", pid=0) for i in (1, 2)]
    zombie = Process(14, "ray::Agent.run", psutil.STATUS_ZOMBIE)
    assert found([AGENT, INGRESS, *parked], [*FAMILY, zombie]) == []
