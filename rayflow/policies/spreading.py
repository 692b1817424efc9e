"""Which machine of a cluster a new process goes to.

What owns files stays where the files are. Everything else goes where the fewest of its own pool are, so that the death
of one machine takes the smallest part of every pool; among those machines, where the fewest of our processes are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

AT_HOME = frozenset({"session", "eventlog"})
"""Roles whose files are in the state folder."""


@dataclass(frozen=True, slots=True)
class Node:
    """`host`: its address for other machines. `processes`: how many of ours it runs, `siblings`: of those, how many in
    the pool of the new one."""

    id: str
    host: str = ""
    processes: int = 0
    siblings: int = 0


def spread(role: str, nodes: Sequence[Node], home: str) -> Node:
    """The node for a process of this role. `home`: where the state folder is. Raises ValueError for an empty list.

    Without the home node, what owns files goes to any other: it works where the state folder is on a shared volume.
    """
    if not nodes:
        raise ValueError("no node is alive")
    if role in AT_HOME:
        nodes = [node for node in nodes if node.id == home] or nodes
    return min(nodes, key=lambda node: (node.siblings, node.processes, node.id))
