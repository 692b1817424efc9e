"""Which of several nodes owns a key: rendezvous (highest random weight) hashing.

Every caller with the same list of nodes finds the same owner without talking to anyone, and when a node leaves only its
own keys move. Source: Thaler, Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM ToN 6(1), 1998.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from rayflow.messages.records import ANSWERED, SESSION


def owner(key: str, nodes: Sequence[str]) -> str:
    """The node with the highest hash of (node, key). Raises ValueError for an empty list."""
    if len(nodes) == 1:
        return nodes[0]
    if not nodes:
        raise ValueError("no node to own the key")
    return max(nodes, key=lambda node: blake2b(f"{node}\0{key}".encode(), digest_size=8).digest())


def shard_addresses(shards: int) -> list[str]:
    """Addresses of the session stores. The list follows from the configuration and not from who is up right now, so a
    session never moves because its store is being restarted."""
    return [f"session/{i}" for i in range(shards)]


def router_addresses(routers: int) -> list[str]:
    """Addresses of the routers, whoever is up right now."""
    return [f"router/{i}" for i in range(routers)]


def record_shard(tenant: str, of: str, shards: Sequence[str]) -> str:
    """The session store that has the records of an owner (`messages.records`): a session's lie where it lies."""
    for beside in (SESSION, ANSWERED):
        if of.startswith(beside):
            return owner(of[len(beside) :], shards)
    return owner(f"{tenant}\0{of}", shards)
