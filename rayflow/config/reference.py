"""The table of all keys in docs/configuration.md, made from the schema so that it cannot fall behind it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from rayflow.config.layers import PREFIX
from rayflow.config.rules import Rule, root

BEGIN = "<!-- keys: made by `rayflow config reference` -->"
END = "<!-- end of keys -->"
_HEAD = "| key | type | default | meaning | variable |\n| --- | --- | --- | --- | --- |"


def reference() -> str:
    """Markdown between two markers: the keys of the top level, then a table for each section."""
    top: list[str] = []
    sections: list[str] = []
    for name, schema in root().keys.items():
        rule = Rule(schema)
        if section := _section(rule):
            rows = _rows(section, f"{name}.N" if rule.admits("array") else name)
            sections += [f"### {name}", _sentence(rule.schema["description"]), _table(rows)]
        else:
            top.append(_row(name, rule, required=name in root().required))
    return "\n\n".join([BEGIN, "### Top level", _table(top), *sections, END]) + "\n"


def update(document: str) -> str:
    """`document` with what stands between the markers made anew. ValueError where it lacks them."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END + "\n")
    if not (begin and end):
        raise ValueError(f"the document lacks the markers {BEGIN!r} and {END!r}")
    return before + reference() + after


def _section(rule: Rule) -> Rule | None:
    """The section that a key holds, alone or as the entries of a list; None for keys with plain values."""
    section = rule.child("0") if rule.admits("array") else rule
    return section if section and section.keys else None


def _rows(section: Rule, path: str) -> Iterator[str]:
    for name, schema in section.keys.items():
        rule, key = Rule(schema), f"{path}.{name}"
        within = _section(rule)
        if within is None or rule.admits("array"):
            yield _row(key, rule, required=name in section.required)
        if within is not None:
            yield from _rows(within, f"{key}.N" if rule.admits("array") else key)


def _table(rows: Iterable[str]) -> str:
    return "\n".join([_HEAD, *rows])


def _row(key: str, rule: Rule, required: bool) -> str:
    kind = rule.expected.removesuffix(" or null").partition(" (")[0] + (", secret" if rule.secret else "")
    default = rule.schema.get("default")
    shown = "required" if required else "unset" if default is None else f"`{json.dumps(default)}`"
    variable = PREFIX + key.upper().replace(".", "__")
    return f"| `{key}` | {kind} | {shown} | {_sentence(rule.schema['description'])} | `{variable}` |"


def _sentence(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
