"""What is shown of a stored state under the present schema.

A schema may change while states of the old one are there. Nothing of them is lost: a field that is not declared any
more stays and is not shown, one that is missing has its default, and one whose value does not fit any more is named
together with the way out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rayflow.config.schema import StateConfig
from rayflow.config.sections.state import misfit
from rayflow.policies.state.document import State


class Misfit(msgspec.Struct, frozen=True):
    """A stored value that the schema does not allow."""

    field: str
    expected: str
    got: str
    way_out: str = "give it a value with `replace`, or take it out with `remove`"


class StateView(msgspec.Struct, frozen=True):
    """`values`: all declared fields; null where there is neither a value nor a default. `misfits` are null, too.
    `undeclared`: names of what is kept of an earlier schema. `oldest`: the first version of the history."""

    version: int
    schema_version: int
    values: dict[str, Any]
    misfits: list[Misfit]
    undeclared: list[str]
    updated_us: int
    oldest: int


def view(config: StateConfig, state: State) -> StateView:
    values: dict[str, Any] = {}
    misfits: list[Misfit] = []
    for field in config.fields:
        value = state.values.get(field.name, field.default)
        if value is not None and (wrong := misfit(field, value)):
            misfits.append(Misfit(field.name, *wrong))
            value = None
        values[field.name] = value
    undeclared = sorted(state.values.keys() - values.keys())
    schema_version = state.schema_version or config.schema_version
    return StateView(state.version, schema_version, values, misfits, undeclared, state.updated_us, state.oldest)
