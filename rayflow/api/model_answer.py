"""One answer of the standalone model endpoint on its way out: encoded as OpenAI's clients expect, paced, and stalled or
cut off where its fault says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from rayflow.api.model_faults import Behaviour, Draw, Fault
from rayflow.chat import ModelReply, Usage
from rayflow.clock import SYSTEM_CLOCK
from rayflow.models.offline import tokens

_encode = msgspec.json.encode


class Answer:
    """One reply on its way out, at the pace and up to the fault that were set."""

    def __init__(self, reply: ModelReply, behaviour: Behaviour, draw: Draw) -> None:
        self._reply = reply
        self._behaviour = behaviour
        self._draw = draw
        created_us = SYSTEM_CLOCK.wall_us()
        self._head = {"id": f"chatcmpl-{created_us:x}", "created": created_us // 1_000_000, "model": reply.model}

    def completion(self) -> dict[str, Any]:
        reply = self._reply
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": None}
        if reply.tool_calls:
            message["tool_calls"] = reply.tool_calls
        choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason, "logprobs": None}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": _usage(reply.usage)}

    async def whole(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """The JSON answer when its last token is due; half of it before a fault."""
        await asyncio.sleep(self._due_s(self._reply.usage.completion_tokens))
        if self._draw.fault is Fault.NONE:
            yield body
            return
        yield body[: len(body) // 2]
        await self._misbehave()

    async def events(self, include_usage: bool) -> AsyncGenerator[bytes, None]:
        """The answer as server-sent events."""
        reply = self._reply
        extra: dict[str, Any] = {"usage": None} if include_usage else {}
        started = asyncio.get_running_loop().time()
        sent_tokens = 0
        deltas = self._deltas()
        ends_at = len(deltas) if self._draw.fault is Fault.NONE else int(self._draw.at * len(deltas))
        for delta, delta_tokens in deltas[:ends_at]:
            wait_s = started + self._due_s(sent_tokens) - asyncio.get_running_loop().time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            sent_tokens += delta_tokens
            yield self._event([{"index": 0, "delta": delta, "finish_reason": None}], extra)
        if self._draw.fault is not Fault.NONE:
            await self._misbehave()
            return
        yield self._event([{"index": 0, "delta": {}, "finish_reason": reply.finish_reason}], extra)
        if include_usage:
            yield self._event([], {"usage": _usage(reply.usage)})
        yield b"data: [DONE]\n\n"

    def _deltas(self) -> list[tuple[dict[str, Any], int]]:
        """(delta, its tokens) in order: the role with the first word, then word by word, or the tool calls."""
        reply = self._reply
        words = [({"content": piece}, tokens.count(piece)) for piece in tokens.pieces(reply.text)]
        calls = [
            ({"tool_calls": [{"index": index, **msgspec.to_builtins(call)}]}, 1)
            for index, call in enumerate(reply.tool_calls)
        ]
        return [({"role": "assistant", "content": ""}, 0), *words, *calls]

    def _due_s(self, sent_tokens: int) -> float:
        """Seconds from the request until the token after `sent_tokens` others."""
        pace = self._behaviour.tokens_per_s
        return self._behaviour.ttft_ms / 1000 + (sent_tokens / pace if pace else 0.0)

    async def _misbehave(self) -> None:
        """A cut comes at once (see `Unfinishable`); a stall lasts until the client's disconnect cancels it."""
        if self._draw.fault is Fault.STALL:
            await asyncio.get_running_loop().create_future()

    def _event(self, choices: list[dict[str, Any]], extra: dict[str, Any]) -> bytes:
        chunk = {**self._head, "object": "chat.completion.chunk", "choices": choices, **extra}
        return b"data: " + _encode(chunk) + b"\n\n"


class Unfinishable(StreamingResponse):
    """A streamed response that, after a cut, never says that it is complete: the server then closes the connection."""

    def __init__(
        self, content: AsyncGenerator[bytes, None], fault: Fault, media_type: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(content, media_type=media_type, headers=headers)
        self._cut = fault is Fault.CUT

    async def stream_response(self, send: Send) -> None:
        async def send_all_but_the_end(message: Message) -> None:
            if message.get("more_body", True):
                await send(message)

        await super().stream_response(send_all_but_the_end if self._cut else send)


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
