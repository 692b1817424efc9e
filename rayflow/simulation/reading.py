"""From a scenario file to a checked `Scenario`: as strict as a workflow file, and as helpful where it is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic

from rayflow.config import layers, rules
from rayflow.config.explain import explain
from rayflow.config.findings import Findings
from rayflow.config.paths import located
from rayflow.config.problem import Problem, invalid
from rayflow.config.yaml import MAX_BYTES, Value, parse
from rayflow.simulation.scenario import Scenario


def read(path: str | Path, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario in a file. `overrides`: `key=value` texts, as given to `--set`.

    Raises `ConfigurationError` with every problem.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            source = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise invalid([Problem("", "a readable scenario file", reason.lower(), "", str(path))]) from None
    document = parse(source, str(path))
    findings = Findings(str(path), document.positions, rules.of(Scenario))
    findings.include(document.problems)
    data = layers.apply(document.data, layers.from_flags(overrides, findings), findings)
    return _checked(data, path.parent, findings)


def from_dict(data: Mapping[str, Any], base: Path = Path()) -> Scenario:
    """A scenario made by a program. Raises `ConfigurationError`."""
    return _checked(dict(data), base, Findings(None, rule=rules.of(Scenario)))


def _checked(data: Value, base: Path, findings: Findings) -> Scenario:
    if isinstance(data, dict):
        data = located(data, base, findings)
    try:
        scenario = Scenario.model_validate(data)
    except pydantic.ValidationError as error:
        explain(error, findings)
        raise invalid(findings.problems) from None
    if findings.problems:
        raise invalid(findings.problems)
    return _absolute(scenario, base)


def _absolute(scenario: Scenario, base: Path) -> Scenario:
    """The files that a scenario names lie beside it."""
    changes: dict[str, Any] = {}
    if scenario.workflow is not None:
        changes["workflow"] = str((base / scenario.workflow).absolute())
    if scenario.arrivals.file is not None:
        file = str((base / scenario.arrivals.file).absolute())
        changes["arrivals"] = scenario.arrivals.model_copy(update={"file": file})
    return scenario.model_copy(update=changes)
