"""The working state of a session: typed fields, changed by reducers, with a history that leads back.

A state is plain JSON under names that the workflow file declares. An update says what it brings, not what the result
is, so two that come at once need not undo each other: `update` turns it into the next values. What changed is kept as a
delta (`changes`) that applies in both directions: replayed it gives the state, undone the state as it was. `document`
has the records that all this is stored as. docs/state.md tells users the same.
"""

from __future__ import annotations

from rayflow.policies.state.changes import Change, changed, diff, undone
from rayflow.policies.state.document import CHECKPOINT, DELTA, HEAD, STATE, Checkpoint, Delta, Mark, State, delta_name
from rayflow.policies.state.text import state_text
from rayflow.policies.state.update import StateUpdate, commutes, updated
from rayflow.policies.state.view import Misfit, StateView, view

__all__ = [
    "CHECKPOINT", "DELTA", "HEAD", "STATE", "Change", "Checkpoint", "Delta", "Mark", "Misfit", "State", "StateUpdate",
    "StateView", "changed", "commutes", "delta_name", "diff", "state_text", "undone", "updated", "view",
]  # fmt: skip
