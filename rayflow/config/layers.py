"""What overrides the file: variables `RAYFLOW_PROCESSING__ROUTERS=2` and above them flags `--set processing.routers=2`.

Both name one key, with the numbers of list entries counted from 0, and carry its value as text. The schema says how the
text is read: as it stands where the key holds text, else as YAML (`0.5`, `true`, `[a, b]`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rayflow.config import rules
from rayflow.config.explain import describe
from rayflow.config.findings import Findings
from rayflow.config.problem import Problem
from rayflow.config.yaml import Value, parse_value
from rayflow.errors import ConfigurationError

PREFIX = "RAYFLOW_"


class Override(NamedTuple):
    """`source` is the variable's name or the flag."""

    source: str
    path: list[str]
    text: str


def from_environment(env: Mapping[str, str]) -> list[Override]:
    """The variables that name a key. Those whose first part is no section (`RAYFLOW_DEBUG`) are for others."""
    found = []
    for name, text in env.items():
        if name.startswith(PREFIX):
            path = _path_of(name.removeprefix(PREFIX).split("__"))
            if path[0] in rules.root().keys:
                found.append(Override(name, path, text))
    # Sections before their entries, entry 2 before entry 10.
    return sorted(found, key=lambda override: [(part.isdecimal(), part.zfill(6)) for part in override.path])


def from_flags(flags: Iterable[str], findings: Findings) -> list[Override]:
    """The values of `--set`, in the order given."""
    found = []
    for flag in flags:
        key, equals, text = flag.partition("=")
        if equals and key:
            found.append(Override("--set", key.split("."), text))
        else:
            findings.include([Problem("", "KEY=VALUE, such as processing.routers=2", repr(flag), file="--set")])
    return found


def apply(data: Value, overrides: Iterable[Override], findings: Findings) -> Value:
    """`data` with the overrides put in, later ones above earlier ones."""
    for override in overrides:
        path = ".".join(override.path)
        findings.overrides[path] = override.source
        try:
            data = _graft(data, override.path, from_text(override.text, path, findings), findings.rule)
        except _Misplaced as error:
            findings.add(path, *error.facts)
    return data


def from_text(text: str, path: str, findings: Findings) -> Value:
    """The value that `text` stands for at this key. Text that cannot be read is reported."""
    rule = rules.find(path, findings.rule)
    if rule is None:
        return text
    if rule.admits("string") and not (rule.admits("array") and text.startswith("[")):
        return None if rule.nullable and text in ("", "null") else text
    try:
        return parse_value(text, path)
    except ConfigurationError:
        findings.add(path, rule.expected, describe(text, rule))
        return text


def _path_of(parts: list[str]) -> list[str]:
    """The keys of a variable's name: lower case, except where keys are the user's own."""
    path: list[str] = []
    for part in parts:
        rule = rules.find(".".join(path))
        path.append(part if rule and rule.free_keys else part.lower())
    return path


class _Misplaced(Exception):
    def __init__(self, expected: str, got: str) -> None:
        super().__init__(expected)
        self.facts = expected, got


def _graft(node: Value, path: list[str], value: Value, rule: rules.Rule | None) -> Value:
    """`node` with `value` at `path`; sections and lists on the way are made where there are none."""
    if not path:
        return value
    part, rest = path[0], path[1:]
    below = rule.child(part) if rule else None
    match node if node is not None else ([] if rule and rule.admits("array") else {}):
        case list(entries):
            if not (part.isdecimal() and len(part) < 7 and int(part) <= len(entries)):
                raise _Misplaced(f"the number of an entry, 0 to {len(entries)}", repr(part))
            index = int(part)
            old = entries[index] if index < len(entries) else None
            return [*entries[:index], _graft(old, rest, value, below), *entries[index + 1 :]]
        case dict(entries):
            return {**entries, part: _graft(entries.get(part), rest, value, below)}
        case other:
            raise _Misplaced("a section or list to set a key of", describe(other, rule))
