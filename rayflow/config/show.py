"""A configuration for people and for editors: as YAML with its secrets hidden, and as a JSON Schema."""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

from rayflow.config import rules
from rayflow.config.schema import WorkflowConfig
from rayflow.config.yaml import MAX_BYTES

HIDDEN = "**********"


def show(config: WorkflowConfig) -> str:
    """The whole configuration, defaults included and unset keys left out, as YAML that would load again but for its
    hidden secrets."""
    yaml = YAML()
    yaml.width = MAX_BYTES  # no line is folded
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    yaml.dump(_shown(config.model_dump(mode="json", exclude_none=True), rules.root()), out)
    return out.getvalue()


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a workflow file, for completion and checks while typing."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **WorkflowConfig.model_json_schema()}


def _shown(value: Any, rule: rules.Rule | None) -> Any:
    if rule is not None and rule.secret and isinstance(value, str):
        return HIDDEN
    match value:
        case dict():
            return {key: _shown(each, rule.child(key) if rule else None) for key, each in value.items()}
        case list():
            return [_shown(each, rule.child("0") if rule else None) for each in value]
        case str():
            return _text(value.replace("${", "$${"))
        case _:
            return value


def _text(text: str) -> str:
    """The text in the style that reads best: prose of several lines as a block, what cannot be seen as escapes."""
    if text.isprintable():
        return text
    lines = text.split("\n")
    is_prose = lines[0] and all(line.isprintable() and line == line.strip() for line in lines)
    styled: str = LiteralScalarString(text) if is_prose else DoubleQuotedScalarString(text)
    return styled
