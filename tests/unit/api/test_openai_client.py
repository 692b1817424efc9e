"""The official openai client, unchanged, against a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import openai
import pytest
from api_doubles import KEY, ScriptedClient, config, result, served, tokens, tool_result

from rayflow.api.http import create_app
from rayflow.errors import Conflict, ModelError, Overloaded, Unavailable

ASK = [{"role": "user", "content": "hi"}]
TOOLS = [{"type": "function", "function": {"name": "get_order", "parameters": {"type": "object", "properties": {}}}}]


@pytest.fixture
def client() -> ScriptedClient:
    return ScriptedClient(config(security={"api_keys": [KEY]}))


@pytest.fixture
async def url(client: ScriptedClient) -> AsyncIterator[str]:
    async with served(create_app(client)) as url:
        yield f"{url}/v1"


@pytest.fixture
async def ai(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as ai:
        yield ai


async def test_chat(client: ScriptedClient, ai: openai.AsyncOpenAI) -> None:
    raw = await ai.chat.completions.with_raw_response.create(
        model="team", messages=ASK, temperature=0.2, extra_headers={"X-Session-Id": "s-1"}
    )
    answer = raw.parse()
    assert answer.choices[0].message.content == "Hello there."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 17
    assert raw.headers["x-session-id"] == client.runs[0].session_id == "s-1"
    assert answer._request_id == client.runs[0].run_id


async def test_stream(ai: openai.AsyncOpenAI) -> None:
    stream = await ai.chat.completions.create(model="team", messages=ASK, stream=True)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello there."
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


async def test_stream_with_usage(ai: openai.AsyncOpenAI) -> None:
    stream = await ai.chat.completions.create(
        model="billing", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = [chunk async for chunk in stream]
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (12, 5)


async def test_the_stream_helper_puts_the_answer_together(client: ScriptedClient, ai: openai.AsyncOpenAI) -> None:
    client.script = lambda run: [*tokens(run, "Hé", "llo\n\n", "data: \u2028"), result(run, "Héllo\n\ndata: \u2028!")]
    async with ai.chat.completions.stream(model="team", messages=ASK) as stream:
        completion = await stream.get_final_completion()
    assert completion.choices[0].message.content == "Héllo\n\ndata: \u2028!"


async def test_models(ai: openai.AsyncOpenAI) -> None:
    models = [model async for model in ai.models.list()]
    assert [model.id for model in models] == ["team", "billing", "facts"]
    assert {model.owned_by for model in models} == {"rayflow"}
    assert (await ai.models.retrieve("facts")).id == "facts"


async def test_tool_calls(client: ScriptedClient, ai: openai.AsyncOpenAI) -> None:
    client.script = lambda run: [tool_result(run)]
    answer = await ai.chat.completions.create(model="team", messages=ASK, tools=TOOLS, tool_choice="auto")
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert (calls[0].id, calls[0].function.name, calls[0].function.arguments) == ("call_1", "get_order", '{"id": 7}')
    # The client sends the whole answer back, with the result of the call.
    client.script = lambda run: [result(run)]
    reply = {"role": "tool", "tool_call_id": calls[0].id, "content": "shipped"}
    history = [*ASK, answer.choices[0].message, reply]
    again = await ai.chat.completions.create(model="team", messages=history, tools=TOOLS)
    assert again.choices[0].message.content == "Hello there."


async def test_streamed_tool_calls(client: ScriptedClient, ai: openai.AsyncOpenAI) -> None:
    client.script = lambda run: [tool_result(run)]
    async with ai.chat.completions.stream(model="team", messages=ASK, tools=TOOLS) as stream:
        choice = (await stream.get_final_completion()).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    assert choice.message.tool_calls[0].function.arguments == '{"id": 7}'


async def test_a_wrong_key_is_an_authentication_error(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=url, api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as caught:
            await stranger.models.list()
    assert caught.value.code == "invalid_api_key"


async def test_an_unknown_model_is_not_found(ai: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await ai.chat.completions.create(model="gpt-6", messages=ASK)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_a_bad_request_names_its_parameter(ai: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await ai.chat.completions.create(model="team", messages=ASK, temperature=9)
    assert (caught.value.param, caught.value.type) == ("temperature", "invalid_request_error")


async def test_too_many_requests_say_when_to_come_back(client: ScriptedClient, ai: openai.AsyncOpenAI) -> None:
    client.script = lambda run: [Overloaded("the queue is full", retry_after_s=3)]
    with pytest.raises(openai.RateLimitError) as caught:
        await ai.chat.completions.create(model="team", messages=ASK)
    assert caught.value.response.headers["retry-after"] == "3"


async def test_the_client_retries_what_may_succeed_and_only_that(client: ScriptedClient, url: str) -> None:
    async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=1) as ai:
        for error, calls in ((Conflict("the session is busy"), 1), (Unavailable("not now", retry_after_s=0.001), 2)):
            client.runs.clear()
            client.script = lambda run, error=error: [error]
            with pytest.raises(openai.APIStatusError):
                await ai.chat.completions.create(model="team", messages=ASK)
            assert len(client.runs) == calls


async def test_an_error_within_a_stream_is_raised(client: ScriptedClient, ai: openai.AsyncOpenAI) -> None:
    client.script = lambda run: [*tokens(run, "Hel"), ModelError("the endpoint broke off")]
    stream = await ai.chat.completions.create(model="team", messages=ASK, stream=True)
    with pytest.raises(openai.APIError, match="broke off") as caught:
        async for _ in stream:
            pass
    assert caught.value.code == "model-failed"
