"""What the routes of working states take and give, as JSON."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rayflow.api.session_shapes import rfc3339
from rayflow.policies.state import Change, Delta, Mark, Misfit, StateView

Version = Annotated[int, Meta(ge=0, le=1 << 53)]


class StatePatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to happen, in this order. `replace`: values that take the place of what is there. `update`: values that
    are taken in as each field's reducer says. `remove`: fields, or by field the items of a list or keys of an object.
    `keep_only`: the fields that stay, or by field how many of the last items of a list. `version`: the one that was
    read; where another is there by now, only an update that is right all the same is made."""

    update: dict[str, Any] | None = None
    replace: dict[str, Any] | None = None
    remove: list[str] | dict[str, list[Any]] | None = None
    keep_only: list[str] | dict[str, int] | None = None
    version: Version | None = None


class CheckpointRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A name for a version: the present one where none is given."""

    name: str
    version: Version | None = None


class RestoreRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to go back to, one of the two. `expected_version`: the present version as it was read."""

    checkpoint: str | None = None
    version: Version | None = None
    expected_version: Version | None = None


class SessionState(msgspec.Struct, frozen=True):
    """`version` counts the updates, 0 before the first. `values` has all fields of the workflow, null where there is
    nothing. `misfits`: stored values that do not fit the present schema. `undeclared`: names of fields that are kept of
    an earlier one. `oldest_version`: how far the history leads back."""

    session_id: str
    version: int
    schema_version: int
    values: dict[str, Any]
    misfits: list[Misfit]
    undeclared: list[str]
    updated_at: str | None
    oldest_version: int


class StateChange(msgspec.Struct, frozen=True):
    """How one version came about. `turn`: the last turn of the session at that time. `by`: the request that made it."""

    version: int
    created_at: str
    turn: int
    by: str
    note: str
    schema_version: int
    changes: list[Change]


class StateHistory(msgspec.Struct, frozen=True):
    """Versions, the newest first. `next_before`: what to give as `before` for the next page; null at the end."""

    versions: list[StateChange]
    next_before: int | None


class StateCheckpoint(msgspec.Struct, frozen=True):
    name: str
    version: int
    created_at: str


class StateCheckpoints(msgspec.Struct, frozen=True):
    """In the order in which they were made."""

    checkpoints: list[StateCheckpoint]


def state_of(session_id: str, view: StateView) -> SessionState:
    return SessionState(
        session_id,
        view.version,
        view.schema_version,
        view.values,
        view.misfits,
        view.undeclared,
        rfc3339(view.updated_us) if view.updated_us else None,
        view.oldest,
    )


def change_of(delta: Delta) -> StateChange:
    return StateChange(
        delta.version,
        rfc3339(delta.created_us),
        delta.turn,
        delta.by,
        delta.note,
        delta.schema_version,
        delta.changes,
    )


def checkpoint_of(name: str, mark: Mark) -> StateCheckpoint:
    return StateCheckpoint(name, mark.version, rfc3339(mark.created_us))
