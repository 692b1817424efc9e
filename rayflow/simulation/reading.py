"""From a scenario file to a checked `Scenario`: as strict as a workflow file, and as helpful where it is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rayflow.config import layers, rules
from rayflow.config.findings import Findings
from rayflow.config.load import checked, contents
from rayflow.config.paths import located
from rayflow.config.yaml import Value, parse
from rayflow.simulation.scenario import Scenario


def read(path: str | Path, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario in a file. `overrides`: `key=value` texts, as given to `--set`.

    Raises `ConfigurationError` with every problem.
    """
    path = Path(path)
    document = parse(contents(path, "a readable scenario file"), str(path))
    findings = Findings(str(path), document.positions, rules.of(Scenario))
    findings.include(document.problems)
    data = layers.apply(document.data, layers.from_flags(overrides, findings), findings)
    return _scenario(data, path.parent, findings)


def from_dict(data: Mapping[str, Any], base: Path = Path()) -> Scenario:
    """A scenario made by a program. Raises `ConfigurationError`."""
    return _scenario(dict(data), base, Findings(None, rule=rules.of(Scenario)))


def _scenario(data: Value, base: Path, findings: Findings) -> Scenario:
    if isinstance(data, dict):
        data = located(data, base, findings)
    return _absolute(checked(Scenario, data, findings), base)


def _absolute(scenario: Scenario, base: Path) -> Scenario:
    """The files that a scenario names lie beside it."""
    changes: dict[str, Any] = {}
    if scenario.workflow is not None:
        changes["workflow"] = str((base / scenario.workflow).absolute())
    if scenario.arrivals.file is not None:
        file = str((base / scenario.arrivals.file).absolute())
        changes["arrivals"] = scenario.arrivals.model_copy(update={"file": file})
    return scenario.model_copy(update=changes)
