"""What all sections are made of: the base class, names, strategies, and faults that lie between keys."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=64)]
"""Names of workflows, agents and models: they become model ids, actor names and metric labels."""

OWN_PATTERN = r"^[^:\n]+:[A-Za-z_][A-Za-z0-9_]*$"
Own = Annotated[str, Field(pattern=OWN_PATTERN, max_length=500)]
"""A policy of one's own: `FILE.py:NAME`, relative to the workflow file, or `package.module:NAME`."""


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, defaults are checked, values cannot change after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True, strict=True
    )


class Mismatch(NamedTuple):
    """A value that does not fit another one. `path` is dotted, below the section that found it."""

    path: str
    expected: str
    got: str


class ReferenceProblems(ValueError):
    """Faults that lie between keys, all of one section at once."""

    def __init__(self, problems: list[Mismatch]) -> None:
        super().__init__("; ".join(f"{path}: expected {expected}, got {got}" for path, expected, got in problems))
        self.problems = problems
