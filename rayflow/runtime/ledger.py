"""What the coordinator knows, in a form that outlives it.

After each event, the whole of it is compared with what was written before, and the difference is written in one
transaction: nothing can be forgotten, and an epoch is on record before its process is spawned. Configurations hold
keys, so the record belongs where only the owner of the system can read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from rayflow.messages import Join
from rayflow.runtime.ports import Record
from rayflow.runtime.supervision.child import Life


class Holder(msgspec.Struct, frozen=True, omit_defaults=True):
    """One incarnation of a child. `join`: where its process listens, once it has joined."""

    address: str
    epoch: int
    role: str
    state: Life
    generation: int
    restarts: int = 0
    join: Join | None = None


class Knowledge(msgspec.Struct, frozen=True, omit_defaults=True):
    """`configs`: configurations as JSON, by their number; `target`: the one that all children have or shall get.
    `epochs`: highest epoch used, by address. `sizes`: replicas that agents should have, where they were scaled;
    `spares`: addresses of those that are ready and not in the rotation. `guests`: members that are no children.
    `retired` and `version` as in `Directory`."""

    target: int = 0
    configs: dict[int, bytes] = {}
    stopping: bool = False
    epochs: dict[str, int] = {}
    holders: list[Holder] = []
    guests: list[Join] = []
    retired: list[str] = []
    version: int = 0
    sizes: dict[str, int] = {}
    spares: list[str] = []


class Ledger:
    """Keeps a `Record` equal to the coordinator's knowledge."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._written = dict(record.load())

    def read(self) -> Knowledge | None:
        """What the coordinator before this one knew; None where no workflow was launched."""
        facts = self._written
        target = msgspec.json.decode(facts.get("target", b"0"), type=int)
        if not target:
            return None
        return Knowledge(
            target=target,
            configs={int(key): value for key, value in _under("config/", facts)},
            stopping="stopping" in facts,
            epochs={address: msgspec.json.decode(value, type=int) for address, value in _under("epoch/", facts)},
            holders=[msgspec.json.decode(value, type=Holder) for _, value in _under("holder/", facts)],
            guests=[msgspec.json.decode(value, type=Join) for _, value in _under("guest/", facts)],
            retired=msgspec.json.decode(facts["retired"], type=list[str]),
            version=msgspec.json.decode(facts["version"], type=int),
            sizes={agent: msgspec.json.decode(value, type=int) for agent, value in _under("size/", facts)},
            spares=[address for address, _ in _under("spare/", facts)],
        )

    def write(self, known: Knowledge) -> None:
        facts = dict(_facts(known))
        changed = {key: value for key, value in facts.items() if self._written.get(key) != value}
        gone = self._written.keys() - facts.keys()
        if changed or gone:
            self._record.write(changed, gone)
            self._written = facts

    def close(self) -> None:
        self._record.close()


def _facts(known: Knowledge) -> Iterator[tuple[str, bytes]]:
    encode = msgspec.json.encode
    yield "target", encode(known.target)
    yield "retired", encode(known.retired)
    yield "version", encode(known.version)
    if known.stopping:
        yield "stopping", b""
    for number, config in known.configs.items():
        yield f"config/{number}", config
    for address, epoch in known.epochs.items():
        yield f"epoch/{address}", encode(epoch)
    for holder in known.holders:
        yield f"holder/{holder.address}#{holder.epoch}", encode(holder)
    for agent, size in known.sizes.items():
        yield f"size/{agent}", encode(size)
    for address in known.spares:
        yield f"spare/{address}", b""
    for guest in known.guests:
        yield f"guest/{guest.entry.address}", encode(guest)


def _under(prefix: str, facts: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    return ((key.removeprefix(prefix), value) for key, value in facts.items() if key.startswith(prefix))
