"""Who is here and where: what the coordinator tells everybody in the directory.

Every process that has joined can be reached by its node address; an actor can be reached by its own address while an
incarnation of it serves. Endpoints of the dead are retired: should one of them only have been frozen, nobody listens to
it any more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping

from msgspec import structs

from rayflow.messages import Directory, Endpoint, Join
from rayflow.runtime.ports import Fabric
from rayflow.runtime.roster import COORDINATOR, ROLES, node_address

RETIRED = 256
"""So many retired endpoints are remembered; each is the path or port of one process and is not used again soon."""


class Membership:
    """`version`: number of the first directory; it must be higher than any that an earlier coordinator pushed."""

    def __init__(self, fabric: Fabric, version: int, retired: Iterable[str] = ()) -> None:
        self._fabric = fabric
        self._version = version
        self._joins: dict[tuple[str, int], Join] = {}
        self._serving: dict[str, int] = {}
        self._pushing = False
        self.retired = deque(retired, RETIRED)

    @property
    def directory(self) -> Directory:
        own = Endpoint(COORDINATOR, self._fabric.endpoint)
        nodes = [structs.replace(j.entry, address=node_address(*key)) for key, j in self._joins.items()]
        actors = [join.entry for (address, epoch), join in self._joins.items() if self._serving.get(address) == epoch]
        return Directory(self._version, [own, *nodes, *actors], list(self.retired))

    @property
    def guests(self) -> list[Join]:
        """Members that are nobody's children."""
        return [join for join in self._joins.values() if join.role not in ROLES]

    def find(self, address: str, epoch: int) -> Join | None:
        return self._joins.get((address, epoch))

    def at(self, endpoint: str) -> list[Join]:
        """Who listens there."""
        return [join for join in self._joins.values() if endpoint in (join.entry.endpoint, join.entry.tcp)]

    def enter(self, join: Join) -> None:
        """A process has joined. A guest serves at once, and takes the place of an earlier one of its name."""
        address, epoch = join.entry.address, join.entry.epoch
        if self._joins.get((address, epoch)) == join:
            return
        if join.role not in ROLES:
            for other in [key for key in self._joins if key[0] == address]:
                del self._joins[other]
            self._serving[address] = epoch
        self._joins[address, epoch] = join
        self._push()

    def leave(self, address: str, epoch: int) -> None:
        """A process is gone."""
        join = self._joins.pop((address, epoch), None)
        if join is None:
            return
        if self._serving.get(address) == epoch:
            del self._serving[address]
        if not self.at(join.entry.endpoint):
            self.retired.append(join.entry.endpoint)
        self._push()

    def show(self, serving: Mapping[str, int]) -> None:
        """These incarnations of children serve, and no others."""
        serving = {**{join.entry.address: join.entry.epoch for join in self.guests}, **serving}
        if serving != self._serving:
            self._serving = serving
            self._push()

    def _push(self) -> None:
        """Once per turn of the loop, however many changes there were. We ourselves know at once."""
        self._version += 1
        self._fabric.directory.update(self.directory)
        if not self._pushing:
            self._pushing = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._pushing = False
        directory = self.directory
        for address, epoch in self._joins:
            self._fabric.tell(node_address(address, epoch), directory)
