"""What a model gets of a conversation, and why.

A session's past (`past`) is read once and grows with it: messages, their tokens (`tokens`), an index (`search`),
digests (`summary`) and topics. `assembly` spends the budget of a call on it: the new messages, what is pinned or
preferred (`facts`), the last messages as far as they fit (`window`), and for those that do not a summary and whatever
of them the new message asks about. Each piece says why it is there (`pieces`). `known` is what a router keeps between
turns, and the short way for the conversations, most of them, of which the window is all that is wanted. docs/context.md
tells users the same.
"""

from __future__ import annotations

from rayflow.policies.context.assembly import Meaning, asked, assemble, state_line, weighs
from rayflow.policies.context.facts import NO_FACTS, SUMMARY_KEY, Facts, WrittenSummary, preferring
from rayflow.policies.context.known import Known, plain
from rayflow.policies.context.past import Entry, Past
from rayflow.policies.context.pieces import Context, Inclusion, Piece, Reason
from rayflow.policies.context.search import Hit, Index
from rayflow.policies.context.summary import CHUNK
from rayflow.policies.context.tokens import Count, estimate, message_tokens
from rayflow.policies.context.topics import Topic

__all__ = [
    "CHUNK", "NO_FACTS", "SUMMARY_KEY", "Context", "Count", "Entry", "Facts", "Hit", "Inclusion", "Index", "Known",
    "Meaning", "Past", "Piece", "Reason", "Topic", "WrittenSummary", "asked", "assemble", "estimate", "message_tokens",
    "plain", "preferring", "state_line", "weighs",
]  # fmt: skip
