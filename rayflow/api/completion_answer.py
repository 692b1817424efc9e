"""Answers of POST /v1/chat/completions: the JSON object and the stream of chunks.

What is the same in every chunk of a stream is encoded once; a token costs one JSON string and two concatenations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import orjson

from rayflow.api import sse
from rayflow.api.problems import openai_error
from rayflow.api.runs import kept, rest
from rayflow.chat import FinishReason, ToolCall, Usage
from rayflow.errors import WorkflowError
from rayflow.events import Event
from rayflow.messages import RunResult, Token


class AnswerMessage(msgspec.Struct, frozen=True, kw_only=True):
    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: str | None = None
    tool_calls: list[ToolCall] | msgspec.UnsetType = msgspec.UNSET


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    index: int = 0
    message: AnswerMessage
    logprobs: None = None
    finish_reason: FinishReason


class PromptTokensDetails(msgspec.Struct, frozen=True):
    cached_tokens: int = 0
    audio_tokens: int = 0


class CompletionTokensDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class CompletionUsage(msgspec.Struct, frozen=True):
    """Tokens of all parts of the run."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails = PromptTokensDetails()
    completion_tokens_details: CompletionTokensDetails = CompletionTokensDetails()


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's chat completion object."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: CompletionUsage


_encode = msgspec.json.Encoder().encode


def completion(result: RunResult, model: str, created_s: int) -> bytes:
    """The JSON answer. `model`: the id the client asked for."""
    calls = result.tool_calls
    content = None if calls and not result.content else result.content
    message = AnswerMessage(content=content, tool_calls=calls or msgspec.UNSET)
    answer = ChatCompletion(
        id=_id(result.run_id),
        created=created_s,
        model=model,
        choices=[Choice(message=message, finish_reason=result.finish_reason)],
        usage=_usage(result.usage),
    )
    return _encode(answer)


class ChunkEncoder:
    """One run as chat completion chunks (an `Encoder`). `include_usage`: as in stream_options."""

    def __init__(self, run_id: str, model: str, created_s: int, include_usage: bool) -> None:
        self._head = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,' % (
            orjson.dumps(_id(run_id)),
            created_s,
            orjson.dumps(model),
        )
        self._include_usage = include_usage
        no_usage = b',"usage":null' if include_usage else b""
        self._delta = self._head + b'"choices":[{"index":0,"delta":'
        self._going_on = b',"logprobs":null,"finish_reason":null}]' + no_usage + b"}\n\n"
        self._content_end = b"}" + self._going_on
        self._content = self._delta + b'{"content":'
        self._next_content = self._content_end + self._content
        self._finish = b',"logprobs":null,"finish_reason":"%b"}]' + no_usage + b"}\n\n"
        self._opened = False
        self._sent: list[str] = []

    def token(self, token: Token) -> bytes:
        """A chunk for each piece: clients see tokens as the model cut them, however they travelled."""
        chunks = self._texts(token.pieces) if token.pieces else b""
        return chunks if self._opened else self._open() + chunks

    def progress(self, event: Event) -> bytes:
        return b""

    def result(self, result: RunResult) -> bytes:
        pieces = [] if self._opened else [self._open()]
        if left := rest("".join(self._sent), result.content):
            pieces.append(self._texts([left]))
        if result.tool_calls:
            pieces.append(self._tool_calls(result.tool_calls))
        pieces.append(self._delta + b"{}" + self._finish % result.finish_reason.encode())
        if self._include_usage:
            pieces.append(self._head + b'"choices":[],"usage":' + _encode(_usage(result.usage)) + b"}\n\n")
        pieces.append(sse.DONE)
        return b"".join(pieces)

    def error(self, error: WorkflowError) -> bytes:
        left = kept("".join(self._sent), error)
        return (self._texts([left]) if left else b"") + b"data: " + openai_error(error) + b"\n\n"

    def _open(self) -> bytes:
        self._opened = True
        return self._delta + b'{"role":"assistant","content":"","refusal":null}' + self._going_on

    def _texts(self, texts: Sequence[str]) -> bytes:
        self._sent += texts
        return self._content + self._next_content.join(map(orjson.dumps, texts)) + self._content_end

    def _tool_calls(self, calls: list[ToolCall]) -> bytes:
        deltas = [
            {
                "index": i,
                "id": call.id,
                "type": call.type,
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for i, call in enumerate(calls)
        ]
        return self._delta + orjson.dumps({"tool_calls": deltas}) + self._going_on


def _id(run_id: str) -> str:
    return f"chatcmpl-{run_id}"


def _usage(usage: Usage) -> CompletionUsage:
    return CompletionUsage(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
