"""Whatever a body holds, the answer is a result or a refusal: never a failure of the server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from api_doubles import ScriptedClient, Wire, config
from hypothesis import given, settings
from hypothesis import strategies as st

from rayflow.api.chat_request import ChatRequest
from rayflow.api.completion_request import ChatCompletionRequest
from rayflow.api.http import create_app

WORDS = st.sampled_from(["team", "user", "auto", "text", "function"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def objects(*keys: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(keys), VALUES, max_size=4)


PARTS = st.lists(objects("type", "text", "image_url", "refusal"), max_size=2)
FUNCTIONS = objects("name", "arguments")
CALLS = st.lists(st.fixed_dictionaries({"id": VALUES, "type": WORDS, "function": FUNCTIONS}), max_size=2)
FIELDS = {"content": VALUES | PARTS, "tool_calls": VALUES | CALLS, "tool_call_id": VALUES, "name": VALUES}
ROLES = st.sampled_from(["system", "user", "assistant", "tool", "function"])
MESSAGES = st.lists(st.fixed_dictionaries({"role": ROLES}, optional=FIELDS), max_size=3)
ASK = [{"role": "user", "content": "hi"}]
COMPLETIONS = st.builds(
    lambda base, more: {**more, **base},
    st.fixed_dictionaries({"model": st.just("team"), "messages": MESSAGES | st.just(ASK)}),
    objects(*ChatCompletionRequest.__struct_fields__),
)
CHATS = st.builds(lambda text, more: {"message": text, **more}, st.text(), objects(*ChatRequest.__struct_fields__))


APP = create_app(ScriptedClient(config()))


def status_of(path: str, body: bytes) -> int:
    async def ask() -> int:
        wire = Wire(path, body)
        await APP(wire.scope, wire.receive, wire.send)
        return wire.status

    return asyncio.run(ask())


@given(COMPLETIONS | VALUES)
@settings(deadline=None)
def test_any_completion_request_is_answered_or_refused(body: Any) -> None:
    assert status_of("/v1/chat/completions", json.dumps(body).encode()) in (200, 400, 404, 422)


@given(CHATS | VALUES)
@settings(deadline=None)
def test_any_chat_request_is_answered_or_refused(body: Any) -> None:
    assert status_of("/chat", json.dumps(body).encode()) in (200, 400, 404, 422)


@given(st.binary())
def test_any_bytes_are_refused(body: bytes) -> None:
    assert status_of("/chat", body) == 400
