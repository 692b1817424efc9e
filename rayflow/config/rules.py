"""What may stand where in a workflow file: the schema as data one can walk.

The JSON Schema that pydantic derives from schema.py already says everything about a key: type, limits, default,
meaning, whether it is secret. So error messages, overrides and the reference table ask a `Rule`, and no second
description of the keys can drift from the first.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import Any

from rayflow.config.schema import NAME_PATTERN, OWN_PATTERN, Section, WorkflowConfig

_NAME = "a name (1 to 64 letters, digits, dots, dashes, underscores; first a letter or digit)"
_PLURALS = {"string": "text", "object": "mappings", "integer": "whole numbers", "number": "numbers"}


class Rule:
    """What one key may hold. `schema` is its JSON Schema without references."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema

    def __repr__(self) -> str:
        return f"Rule({self.expected})"

    @cached_property
    def forms(self) -> list[Mapping[str, Any]]:
        """The alternatives of a union, null left out."""
        return [form for form in self.schema.get("anyOf", [self.schema]) if form["type"] != "null"]

    @property
    def nullable(self) -> bool:
        return any(form.get("type") == "null" for form in self.schema.get("anyOf", []))

    @property
    def secret(self) -> bool:
        """Whether the value, or an entry of it, must never be shown."""
        forms = [self.schema, *self.forms]
        return any(form.get("writeOnly") or form.get("items", {}).get("writeOnly") for form in forms)

    @property
    def showable(self) -> bool:
        """Whether a wrong value may be quoted. What stands in the place of a section may well be a secret."""
        return not self.secret and self.admits("string", "integer", "number", "boolean")

    @property
    def keys(self) -> Mapping[str, Any]:
        """The known keys of a section, each with its schema."""
        return next((form["properties"] for form in self.forms if "properties" in form), {})

    @property
    def required(self) -> list[str]:
        """The keys that a section must have."""
        return [key for form in self.forms for key in form.get("required", [])]

    @property
    def free_keys(self) -> bool:
        """Whether keys are the user's own, as with HTTP headers."""
        return any(isinstance(form.get("additionalProperties"), dict) for form in self.forms)

    def admits(self, *types: str) -> bool:
        """Whether one of these JSON Schema types is possible."""
        return any(form["type"] in types for form in self.forms)

    def child(self, part: str) -> Rule | None:
        """The rule of a key or of a list's entries; None where the schema knows no such key."""
        for form in self.forms:
            if part in form.get("properties", {}):
                return Rule(form["properties"][part])
            if isinstance(values := form.get("additionalProperties"), dict):
                return Rule({**values, "writeOnly": self.secret})
            if form["type"] == "array" and part.isdecimal():
                return Rule(form["items"])
        return None

    @property
    def expected(self) -> str:
        """The rule in plain words."""
        words = [_words(form) for form in self.forms] + ["null"] * self.nullable
        return " or ".join(words)

    def nearest(self, name: str) -> str | None:
        """The known key, or allowed word, that `name` may have been meant to be."""
        candidates = [*self.keys, *(word for form in self.forms for word in form.get("enum", []))]
        # Nobody mistypes a whole page, and comparing one would take a while.
        return next(iter(difflib.get_close_matches(name.lower(), candidates, n=1)), None) if len(name) <= 64 else None


@cache
def of(kind: type[Section]) -> Rule:
    """The rule of a whole file of this kind."""
    schema = kind.model_json_schema()
    return Rule(_inlined(schema, schema.pop("$defs", {})))


def root() -> Rule:
    """The rule of a workflow file."""
    return of(WorkflowConfig)


def locate(location: Sequence[str | int], whole: Rule | None = None) -> tuple[str, Rule | None]:
    """The dotted path and the rule of a place that pydantic reports, without its labels for the members of unions.
    `whole`: the rule of the file, unless it is a workflow file."""
    parts: list[str] = []
    rule: Rule | None = whole or root()
    for part in map(str, location):
        child = rule.child(part) if rule else None
        if child is None and rule is not None and len(rule.forms) > 1:
            continue
        parts.append(part)
        rule = child
    return ".".join(parts), rule


def find(path: str, whole: Rule | None = None) -> Rule | None:
    """The rule at a dotted path."""
    return locate(path.split(".") if path else [], whole)[1]


def _inlined(node: Any, definitions: Mapping[str, Any]) -> Any:
    """The same schema with each reference replaced by what it leads to."""
    match node:
        case {"$ref": str(reference), **rest}:
            return _inlined({**definitions[reference.rpartition("/")[2]], **rest}, definitions)
        case dict():
            return {key: _inlined(value, definitions) for key, value in node.items()}
        case list():
            return [_inlined(entry, definitions) for entry in node]
        case _:
            return node


def _words(form: Mapping[str, Any]) -> str:
    match form["type"]:
        case "string" if "enum" in form:
            return "one of " + ", ".join(form["enum"])
        case "string" if form.get("pattern") == OWN_PATTERN:
            return "a policy of your own as FILE.py:NAME"
        case "string":
            return _NAME if form.get("pattern") == NAME_PATTERN else "text"
        case "integer":
            return f"a whole number{_range(form)}"
        case "number":
            return f"a number{_range(form)}"
        case "boolean":
            return "true or false"
        case "array":
            kind = form["items"]
            entries = "names" if kind.get("pattern") == NAME_PATTERN else _PLURALS[kind["type"]]
            return f"a list of {entries}" + (" with at least one entry" if form.get("minItems") else "")
        case _:
            return "a mapping"


def _range(form: Mapping[str, Any]) -> str:
    if "minimum" in form and "maximum" in form:
        return f" between {form['minimum']} and {form['maximum']}"
    limits = {"exclusiveMinimum": "above", "minimum": "of at least", "maximum": "at most"}
    words = " and ".join(f"{word} {form[key]}" for key, word in limits.items() if key in form)
    return f" {words}" if words else ""
