"""What is remembered of a user beyond a session, and what of it is recalled.

`statements` finds in a text what is worth keeping, `extraction` makes memories of a turn, and a `shelf` has all those
of a user in a workflow: one fact about each subject, within limits, found again by `ranking`, joined and forgotten by
`consolidation`. docs/memory.md tells users the same.
"""

from __future__ import annotations

from rayflow.policies.memory.coding import decode, encode
from rayflow.policies.memory.extraction import Told, memories, tools_of
from rayflow.policies.memory.ranking import Similarity
from rayflow.policies.memory.shelf import Changes, Shelf
from rayflow.policies.memory.statements import Statement, statement, statements, subject, tags

__all__ = [
    "Changes", "Shelf", "Similarity", "Statement", "Told", "decode", "encode", "memories", "statement", "statements",
    "subject", "tags", "tools_of",
]  # fmt: skip
