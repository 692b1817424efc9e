"""From a workflow file to a checked `WorkflowConfig`: file < environment < flags, and all that is wrong in one error.

Nothing is started and nothing is changed by loading. A configuration that loads is complete: every default is filled
in, every name leads somewhere, and every file that it names exists.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from rayflow.config import layers
from rayflow.config.explain import explain
from rayflow.config.findings import Findings
from rayflow.config.paths import located
from rayflow.config.problem import Problem, invalid
from rayflow.config.schema import Section, WorkflowConfig
from rayflow.config.substitution import substitute
from rayflow.config.template import STARTER
from rayflow.config.yaml import MAX_BYTES, parse

S = TypeVar("S", bound=Section)

DEFAULT_FILE = "rayflow.yaml"
BUILT_IN = "built-in example"


def load(path: str | Path, overrides: Sequence[str] = (), env: Mapping[str, str] = os.environ) -> WorkflowConfig:
    """Load a workflow file. `overrides` are `key=value` texts as given to `--set`.

    Raises `ConfigurationError` with every problem; `details["problems"]` holds them as facts.
    """
    path = Path(path)
    source = contents(path, "a readable workflow file", "`rayflow init` writes one to start from")
    return load_text(source, str(path), overrides, env, base=path.parent)


def load_text(
    source: str | bytes,
    file: str = "<text>",
    overrides: Sequence[str] = (),
    env: Mapping[str, str] = os.environ,
    base: Path = Path(),
) -> WorkflowConfig:
    """Load the text of a workflow file. `file` is its name in messages, `base` the folder that its paths start from.

    Raises `ConfigurationError`.
    """
    document = parse(source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source, file)
    findings = Findings(file, document.positions)
    findings.include(document.problems)
    layered = [*layers.from_environment(env), *layers.from_flags(overrides, findings)]
    data = substitute(layers.apply(document.data, layered, findings), env, findings)
    return checked(WorkflowConfig, located(data, base, findings), findings)


def load_or_example(
    path: str | Path | None, overrides: Sequence[str] = (), env: Mapping[str, str] = os.environ
) -> WorkflowConfig:
    """Load `path`; without one `rayflow.yaml` of the working directory, and without that the built-in example."""
    if path is None and not Path(DEFAULT_FILE).exists():
        return load_text(STARTER, BUILT_IN, overrides, env)
    return load(path or DEFAULT_FILE, overrides, env)


def from_dict(data: Mapping[str, Any], base: Path = Path()) -> WorkflowConfig:
    """A configuration made by a program: checked as a file is, but without environment and substitution.

    Raises `ConfigurationError`.
    """
    findings = Findings(None)
    return checked(WorkflowConfig, located(dict(data), base, findings), findings)


def contents(path: Path, expected: str, hint: str = "") -> bytes:
    """What is in a file of keys, up to where it is too large. `hint`: what to do where there is none. Raises
    `ConfigurationError`."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        missing = isinstance(error, FileNotFoundError)
        raise invalid([Problem("", expected, reason.lower(), hint if missing else "", str(path))]) from None


def checked(kind: type[S], data: object, findings: Findings) -> S:
    """`data` as a section of this kind. Raises `ConfigurationError` with everything that was found."""
    try:
        config = kind.model_validate(data)
    except pydantic.ValidationError as error:
        explain(error, findings)
        raise invalid(findings.problems) from None
    if findings.problems:
        raise invalid(findings.problems)
    return config
