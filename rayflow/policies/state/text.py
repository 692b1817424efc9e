"""What a model is told of a state: one block, a line for each field that is declared `in_context`."""

from __future__ import annotations

import msgspec

from rayflow.config.schema import StateConfig
from rayflow.policies.state.document import State
from rayflow.policies.state.view import view

MAX_VALUE_CHARS = 2000
"""Of each field."""


def state_text(config: StateConfig, state: State) -> str:
    """ "" where no field has anything to say."""
    values = view(config, state).values
    lines: list[str] = []
    for field in config.shown:
        value = values[field.name]
        if value is None or value in ("", [], {}):
            continue
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        text = " ".join(text.split())
        if len(text) > MAX_VALUE_CHARS:
            text = f"{text[:MAX_VALUE_CHARS]}..."
        about = f" ({' '.join(field.description.split())})" if field.description else ""
        lines.append(f"- {field.name}{about}: {text}")
    return "\n".join(["Working state of this conversation:", *lines]) if lines else ""
