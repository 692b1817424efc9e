"""How several agents' answers become one.

An answer is taken apart into statements (`markdown`), and what a statement says into its subject, its quantities and
what it denies (`meaning`). Laid beside each other (`answers`), the statements of several agents support or contradict
one another; that, and what the question asks for, makes their scores (`scoring`). A strategy (`strategies`) then says
which statements stand, where `resolution` has decided the contradictions, and `formatting` writes them down. `merger`
is the whole of it, for the aggregator. Everything is pure and the same for the same input.
"""

from __future__ import annotations

from rayflow.policies.merging.markdown import cut
from rayflow.policies.merging.merger import Merger, leads, usable
from rayflow.policies.merging.validation import fault

__all__ = ["Merger", "cut", "fault", "leads", "usable"]
