"""Lines of OpenAI's batch format: `{"custom_id", "method", "url", "body"}`.

The envelope is the concern of the whole file: one that is wrong fails an OpenAI batch before anything runs. The body
is the concern of its line: it is a request like any other, and answered with 400 where it is wrong.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rayflow.api.catalogue import AUTO
from rayflow.api.completion_request import ChatCompletionRequest
from rayflow.api.decode import convert, fault
from rayflow.api.dialogue import split
from rayflow.errors import ValidationError

ENDPOINT = "/v1/chat/completions"
MAX_CUSTOM_ID = 512
_KEYS = frozenset(("custom_id", "method", "url", "body"))


def is_line(value: dict[str, Any]) -> bool:
    return value.keys() >= _KEYS and isinstance(value["body"], dict)


def check_envelope(value: object, endpoint: str = ENDPOINT) -> str:
    """The `custom_id` of a line. Raises `ValidationError`; its `code` is OpenAI's."""
    if not isinstance(value, dict):
        raise _refusal("invalid_request", "This line is not a JSON object.", None)
    for name in ("custom_id", "method", "url", "body"):
        if value.get(name) is None:
            raise _refusal("missing_required_parameter", f"Missing required parameter: {name!r}.", name)
    custom_id, url = value["custom_id"], value["url"]
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MAX_CUSTOM_ID:
        raise _refusal("invalid_value", f"custom_id must be a text of 1 to {MAX_CUSTOM_ID} characters.", "custom_id")
    if value["method"] != "POST":
        raise _refusal("invalid_method", "The method of every line must be POST.", "method")
    if url != endpoint:
        message = f"The url of this line is {str(url)[:64]!r}; the batch is for {endpoint}."
        raise _refusal("mismatched_url", message, "url")
    if not isinstance(value["body"], dict):
        raise _refusal("invalid_value", "body must be an object.", "body")
    return custom_id


def request_of(value: dict[str, Any]) -> dict[str, Any]:
    """A line as a row: its messages, its options, and under `agent` the model that it names ("" for `auto`).

    Raises `ValidationError` as POST /v1/chat/completions does.
    """
    custom_id = check_envelope(value)
    raw = value["body"]
    body = convert(raw, ChatCompletionRequest)
    body.check()
    if body.stream:
        raise fault("stream", "answers of a batch are not streamed; leave it out")
    split(body.messages, raw["messages"], new_session=True)
    agent = "" if body.model == AUTO else body.model
    return {
        "custom_id": custom_id,
        **msgspec.to_builtins(body.params()),
        "messages": msgspec.to_builtins(body.messages),
        "agent": agent,
    }


def _refusal(code: str, message: str, param: str | None) -> ValidationError:
    return ValidationError(message, param=param, code=code)
