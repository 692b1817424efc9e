"""Other files that a workflow file names: made absolute, and missed where they do not exist.

They are looked for beside the workflow file, wherever the command runs; an actor gets absolute paths and needs to know
neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rayflow.config.findings import Findings
from rayflow.config.yaml import Value

TEXTS = ("models.*.knowledge", "agents.*.examples_file", "routing.out_of_scope_file", "session.encryption.key_file")
FOLDERS = ("embeddings.local",)
POLICIES = (
    "routing.strategy", "balancing.strategy", "scaling.strategy", "admission.strategy", "aggregation.strategy",
    "agents.*.balancing.strategy", "agents.*.scaling.strategy", "models.*.retries.strategy",
)  # fmt: skip
"""Where a policy of one's own may stand, as `FILE.py:NAME`."""

Resolve = Callable[[str, str], str]
"""From a key and the text that stands there to what should stand there."""


def located(data: Value, base: Path, findings: Findings) -> Value:
    """`data` with all paths absolute, from the folder `base`. A file that does not exist becomes a finding."""
    for pattern in TEXTS:
        data = _changed(data, pattern.split("."), "", partial(_text, base=base, findings=findings))
    for pattern in FOLDERS:
        data = _changed(data, pattern.split("."), "", partial(_folder, base=base, findings=findings))
    for pattern in POLICIES:
        data = _changed(data, pattern.split("."), "", partial(_policy, base=base, findings=findings))
    return data


def _changed(value: Value, pattern: Sequence[str], key: str, resolve: Resolve) -> Value:
    """`value` with every text that the pattern leads to resolved. What has another form is left for the schema."""
    if not pattern:
        return resolve(key, value) if isinstance(value, str) else value
    step, *rest = pattern
    if step == "*":
        if not isinstance(value, list):
            return value
        return [_changed(entry, rest, f"{key}.{i}", resolve) for i, entry in enumerate(value)]
    if not isinstance(value, dict) or step not in value:
        return value
    return {**value, step: _changed(value[step], rest, f"{key}.{step}" if key else step, resolve)}


def _text(key: str, name: str, base: Path, findings: Findings) -> str:
    return _existing(key, name, name, "an existing text file", base, findings)


def _folder(key: str, name: str, base: Path, findings: Findings) -> str:
    return _existing(key, name, name, "an existing folder", base, findings, Path.is_dir)


def _policy(key: str, strategy: str, base: Path, findings: Findings) -> str:
    file, sign, name = strategy.rpartition(":")
    if not sign or not file.endswith(".py"):
        return strategy
    return f"{_existing(key, file, strategy, 'FILE.py:NAME with an existing file', base, findings)}:{name}"


def _existing(
    key: str,
    name: str,
    got: str,
    expected: str,
    base: Path,
    findings: Findings,
    exists: Callable[[Path], bool] = Path.is_file,
) -> str:
    path = (base / name).absolute()
    if not exists(path):
        findings.add(key, expected, repr(got), f"it is looked for in {base.absolute()}")
    return str(path)
