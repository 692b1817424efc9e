"""The records that a state is stored as, all of them of one session.

The head has the present values and the list of checkpoints, so that one record decides who was first. Beside it there
is a delta for each of the last versions, and a record for each checkpoint. They are JSON, readable by whoever has to.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rayflow.policies.state.changes import Change

STATE, DELTA, CHECKPOINT = "state", "state_delta", "checkpoint"
"""Kinds of records."""
HEAD = "current"
"""The name of the one record of kind `state`."""


class Mark(msgspec.Struct, frozen=True):
    """A checkpoint in the list of them: the version that it holds, and when it was made."""

    version: int
    created_us: int


class State(msgspec.Struct, frozen=True):
    """The head. `version` counts the updates; 0 where there was none. `schema_version`: under which it was written.
    `oldest`: the first version that the history leads back to."""

    version: int = 0
    schema_version: int = 0
    values: dict[str, Any] = {}
    updated_us: int = 0
    oldest: int = 0
    checkpoints: dict[str, Mark] = {}


class Delta(msgspec.Struct, frozen=True):
    """How version `version` came from the one before. `turn`: the last turn of the session at that time. `by`: who made
    it, as they call themselves. `note`: what it was, where it was no update. `write_id` recognises a repetition."""

    version: int
    created_us: int
    turn: int
    changes: list[Change]
    schema_version: int = 1
    by: str = ""
    note: str = ""
    write_id: str = ""


class Checkpoint(msgspec.Struct, frozen=True):
    """The values of a version, whatever becomes of the history."""

    version: int
    schema_version: int
    values: dict[str, Any]


def delta_name(version: int) -> str:
    """Names of deltas are ordered as their versions are."""
    return f"{version:012d}"
