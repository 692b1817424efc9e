from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest
from faults.answers import judge, prompt
from faults.upstream import Trouble, Upstream

QUESTION = "turn 2 of s-1 for alpha"


def body(*, stream: bool = False, earlier: str = "turn 1 of s-1 for beta") -> dict[str, Any]:
    said = [("system", prompt("alpha", 3)), ("user", earlier), ("assistant", "so"), ("user", QUESTION)]
    return {"model": "fake", "stream": stream, "messages": [{"role": role, "content": text} for role, text in said]}


async def ask(upstream: Upstream, **how: Any) -> tuple[int, bytes]:
    url = f"http://127.0.0.1:{upstream.port}/v1/chat/completions"
    async with aiohttp.ClientSession() as http, http.post(url, json=body(**how)) as response:
        return response.status, await response.read()


def streamed(raw: bytes) -> tuple[str, str | None]:
    """Text and last finish reason."""
    events = [json.loads(line[6:]) for line in raw.splitlines() if line.startswith(b"data: {")]
    choices = [event["choices"][0] for event in events]
    return "".join(c["delta"].get("content", "") for c in choices), choices[-1]["finish_reason"]


async def test_it_answers_as_the_agent_that_asks_streamed_or_not() -> None:
    async with Upstream(1) as upstream:
        status, raw = await ask(upstream)
        assert status == 200
        assert judge(json.loads(raw)["choices"][0]["message"]["content"], QUESTION, ("alpha",)) == "whole"
        text, finish = streamed((await ask(upstream, stream=True))[1])
        assert judge(text, QUESTION, ("alpha",)) == "whole"
        assert finish == "stop"


async def test_it_counts_the_calls_of_a_question_and_those_that_are_open() -> None:
    async with Upstream(1) as upstream:
        await ask(upstream)
        await ask(upstream)
        assert upstream.calls == {f"alpha {QUESTION}": 2}
        assert upstream.open == 0


async def test_it_notices_a_context_with_messages_of_another_session() -> None:
    async with Upstream(1) as upstream:
        await ask(upstream, earlier="turn 1 of s-10 for alpha")
        assert upstream.foreign == [QUESTION]


@pytest.mark.parametrize("trouble", [Trouble.RATE_LIMITED, Trouble.BROKEN])
async def test_a_status_is_answered_as_an_error(trouble: Trouble) -> None:
    async with Upstream(1) as upstream:
        upstream.trouble = trouble
        status, raw = await ask(upstream, stream=True)
        assert status == int(trouble)
        assert "error" in json.loads(raw)


async def test_a_truncated_stream_ends_in_good_order_without_a_finish_reason() -> None:
    async with Upstream(1) as upstream:
        upstream.trouble = Trouble.TRUNCATED
        status, raw = await ask(upstream, stream=True)
        text, finish = streamed(raw)
        assert (status, finish) == (200, None)
        assert judge(text, QUESTION, ("alpha",)) == "wrong"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_reset_breaks_the_connection(stream: bool) -> None:
    async with Upstream(1) as upstream:
        upstream.trouble = Trouble.RESET
        with pytest.raises(aiohttp.ClientError):
            await ask(upstream, stream=stream)


async def test_a_call_whose_client_left_is_not_open_any_more() -> None:
    async with Upstream(1) as upstream:
        upstream.trouble = Trouble.STALL
        url = f"http://127.0.0.1:{upstream.port}/v1/chat/completions"
        async with aiohttp.ClientSession() as http:
            response = await http.post(url, json=body(stream=True))
            assert upstream.open == 1
            response.close()
        await upstream.idle(5.0)
        assert upstream.open == 0


async def test_trouble_comes_to_its_share_of_the_calls() -> None:
    async with Upstream(1) as upstream:
        upstream.trouble, upstream.share = Trouble.BROKEN, 0.0
        assert (await ask(upstream))[0] == 200
