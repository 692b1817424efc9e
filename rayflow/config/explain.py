"""From pydantic's errors to sentences a person who writes YAML understands.

pydantic knows which check failed; the schema knows what the key wants. The second is what helps: whichever limit was
missed, the answer is "a whole number between 1 and 64". So pydantic only points at the place, and the `Rule` speaks.
"""

from __future__ import annotations

import pydantic

from rayflow.config import rules
from rayflow.config.findings import Findings
from rayflow.config.schema import Mismatch, ReferenceProblems
from rayflow.config.yaml import join, scalar

LONGEST_QUOTE = 60
_NOT_BOOLEAN = {"yes", "no", "on", "off", "y", "n"}


def explain(error: pydantic.ValidationError, findings: Findings) -> None:
    """Report each of pydantic's errors to `findings`."""
    faults = error.errors(include_url=False)
    located = [(*rules.locate(fault["loc"], findings.rule), fault) for fault in faults]
    sections = {path[:i] for path, _, _ in located for i, character in enumerate(path) if character == "."}
    for path, rule, fault in located:
        kind, value = fault["type"], fault["input"]
        if kind == "extra_forbidden":
            *section, name = fault["loc"]
            _unknown_key(path, str(name), rules.locate(section, findings.rule)[1] or findings.rule, findings)
        elif kind == "missing":
            expected = rule.expected if rule else "a value"
            findings.add(path, expected, "nothing", "the key is required", at_key=True)
        elif kind == "value_error":
            for below, expected, got in _mismatches(fault["ctx"]["error"], value):
                findings.add(join(path, below) if below else path, expected, got)
        elif path not in sections:  # else an entry is wrong, and pydantic adds that a list is no text
            findings.add(path, rule.expected if rule else "text", describe(value, rule), _hint(value, rule))


def describe(value: object, rule: rules.Rule | None) -> str:
    """A value for an error message: quoted where that is safe, else only its kind."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case list():
            return "a list" if value else "an empty list"
        case dict():
            return "a mapping"
        case str():
            kind, text = "text", value
        case int() | float():
            kind, text = "a number", repr(value)
        case _:
            return f"a Python {type(value).__name__}"
    if rule is None or not rule.showable:
        return kind
    shortened = text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}..."
    return repr(shortened) if isinstance(value, str) else shortened


def _unknown_key(path: str, name: str, section: rules.Rule, findings: Findings) -> None:
    near = section.nearest(name)
    expected = "a known key" if near else f"one of the keys {', '.join(section.keys)}"
    shown = name if len(name) <= LONGEST_QUOTE else f"{name[:LONGEST_QUOTE]}..."
    findings.add(path, expected, repr(shown), f"did you mean {near}?" if near else "", at_key=True)


def _mismatches(error: ValueError, value: object) -> list[Mismatch]:
    return error.problems if isinstance(error, ReferenceProblems) else [Mismatch("", str(error), describe(value, None))]


def _hint(value: object, rule: rules.Rule | None) -> str:
    if rule is None:
        return ""
    if value is None:
        return "give it a value or remove the key"
    if isinstance(value, str):
        return _hint_for_text(value, rule)
    if isinstance(value, bool | int | float) and rule.admits("string") and "enum" not in rule.schema:
        return "put it in quotes"
    return ""


def _hint_for_text(text: str, rule: rules.Rule) -> str:
    if near := rule.nearest(text):
        return f"did you mean {near}?"
    if rule.admits("boolean") and text.lower() in _NOT_BOOLEAN:
        return "write true or false"
    if rule.admits("integer", "number", "boolean") and not isinstance(scalar(text), str):
        return "remove the quotes"
    if rule.admits("array"):
        return "write it in brackets: [one, two]"
    return ""
