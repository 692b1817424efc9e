"""A conversation as something to speak about: what is asked of a model, and what its answer says.

Where labels or a score are wanted, the endpoint is asked for JSON of just that shape (`response_format`). Models that
know no such thing answer in words, and those are read too: the one label that occurs, the first number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from rayflow.batch.spec import Judging
from rayflow.chat import Message, ModelParams
from rayflow.errors import ExecutionError

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_QUOTED_CHARS = 80


def question(judging: Judging, messages: Sequence[Message]) -> str:
    """What a model is told: the instruction, the conversation, and how to answer."""
    said = "\n\n".join(f"{message.role}: {message.text}" for message in messages)
    asked = [judging.instruction, f"<conversation>\n{said}\n</conversation>"]
    if judging.labels:
        asked.append(f"The label is one of: {', '.join(judging.labels)}.")
    if judging.score:
        asked.append(f"The score is a number from {judging.score[0]:g} to {judging.score[1]:g}.")
    if names := _names(judging):
        asked.append(f"Answer with JSON that has {' and '.join(names)}.")
    return "\n\n".join(asked)


def judged(params: ModelParams, judging: Judging) -> ModelParams:
    """The options of such a call: what the answer must look like, unless the user has said so."""
    if params.response_format is not None or not _names(judging):
        return params
    properties: dict[str, Any] = {}
    if judging.labels:
        properties["label"] = {"type": "string", "enum": judging.labels}
    if judging.score:
        properties["score"] = {"type": "number", "minimum": judging.score[0], "maximum": judging.score[1]}
    schema = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "judgement", "schema": schema}}
    return msgspec.structs.replace(params, response_format=wanted)


def verdict(judging: Judging, answer: str) -> tuple[str | None, float | None]:
    """The label and the score that an answer gives, None for what was not asked. Raises `ExecutionError` where it does
    not give what was asked."""
    found = _object(answer)
    label = score = None
    if judging.labels:
        label = _label(judging.labels, str(found.get("label", "")) if found else answer)
        if label is None:
            raise ExecutionError(f"the answer names none of the labels {', '.join(judging.labels)}: {_quote(answer)}")
    if judging.score:
        lowest, highest = judging.score
        score = _score(found.get("score") if found else answer)
        if score is None or not lowest <= score <= highest:
            raise ExecutionError(f"the answer gives no score from {lowest:g} to {highest:g}: {_quote(answer)}")
    return label, score


def _names(judging: Judging) -> list[str]:
    return ["label"] * bool(judging.labels) + ["score"] * bool(judging.score)


def _object(answer: str) -> dict[str, Any]:
    begin, end = answer.find("{"), answer.rfind("}")
    try:
        found = msgspec.json.decode(answer[begin : end + 1]) if 0 <= begin < end else None
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _label(labels: Sequence[str], text: str) -> str | None:
    occurring = [label for label in labels if re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text, re.IGNORECASE)]
    # Of "good" and "not good" the longer one is meant.
    meant = [label for label in occurring if not any(label != other and label in other for other in occurring)]
    return meant[0] if len(meant) == 1 else None


def _score(value: object) -> float | None:
    match value:
        case bool() | None:
            return None
        case int() | float():
            return float(value)
        case other:
            number = _NUMBER.search(str(other))
            return float(number[0]) if number else None


def _quote(answer: str) -> str:
    return repr(answer if len(answer) <= _QUOTED_CHARS else answer[:_QUOTED_CHARS] + "...")
