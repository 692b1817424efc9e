"""Answers of chat completions as they come over the wire, decoded by us and believed only when they are whole.

The SDK accepts a stream that just ends, and an HTML page, as success (openai-python 3.52, measured). Here an answer
counts only with a finish reason; what came before a fault is kept in the error as `partial`. Pure: bytes in, chunks
out.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rayflow.chat import FinishReason, Message, ModelChunk, ModelReply, ToolCallDelta, Usage
from rayflow.errors import ModelError, ModelIncomplete
from rayflow.models.upstream import Upstream, error_message, error_text

DONE = b"[DONE]"
BYTES_PER_TOKEN = 4
"""For estimates where an endpoint reports no usage."""

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "tool_calls",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "end_turn": "stop",
    "max_tokens": "length",
}


class _Usage(msgspec.Struct):
    """The details are for statistics: an endpoint with its own idea of their shape has not failed."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: Any = None
    completion_tokens_details: Any = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCallDelta(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    """`reasoning` (two spellings) is no part of the answer, but a sign of life."""

    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCallDelta] | None = None


class _StreamChoice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_StreamChoice] = []
    usage: _Usage | None = None
    error: Any = None


class _Head(msgspec.Struct):
    """What every chunk of a stream repeats, so that one of them is enough."""

    id: Any = None
    model: Any = None


class _Choice(msgspec.Struct):
    message: Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    model: str = ""
    id: Any = None
    error: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_head = msgspec.json.Decoder(_Head).decode
_decode_completion = msgspec.json.Decoder(_Completion).decode


def read_completion(body: bytes, upstream: Upstream, prompt_bytes: int) -> ModelReply:
    """A whole answer. Raises `ModelError` for anything but one, `ModelIncomplete` for one without a finish reason."""
    try:
        completion = _decode_completion(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        said = upstream.quote(error_message(body))
        raise upstream.fault(ModelError, f"the answer is no chat completion ({error}): {said}") from None
    if completion.error:
        raise upstream.fault(ModelError, f"error instead of an answer: {upstream.quote(error_text(completion.error))}")
    if not completion.choices:
        raise upstream.fault(ModelError, "the answer has no choices")
    choice = completion.choices[0]
    text = choice.message.text or choice.message.refusal or ""
    finish_reason = _FINISH_REASONS.get(choice.finish_reason or "")
    if finish_reason is None:
        what = f"the answer has no usable finish_reason ({choice.finish_reason!r})"
        raise upstream.fault(ModelIncomplete, what, partial=text)
    calls = choice.message.tool_calls or []
    said_bytes = len(text.encode()) + sum(len(call.function.arguments) for call in calls)
    return ModelReply(
        text=text,
        finish_reason=finish_reason,
        usage=_usage(completion.usage, prompt_bytes, said_bytes),
        model=completion.model or upstream.model,
        tool_calls=calls,
        response_id=_text(completion.id),
    )


class StreamedAnswer:
    """What a stream has said so far. Feed it the data of each event; ask for the `end` when the stream is over."""

    def __init__(self, upstream: Upstream, prompt_bytes: int) -> None:
        self.started = False
        """Whether the endpoint has shown a sign of life: text, a tool call or reasoning."""
        self.done = False
        """Whether `[DONE]` was read."""
        self._upstream = upstream
        self._prompt_bytes = prompt_bytes
        self._texts: list[str] = []
        self._call_bytes = 0
        self._finish_reason: FinishReason | None = None
        self._usage: _Usage | None = None
        self._head: _Head | None = None

    @property
    def partial(self) -> str:
        return "".join(self._texts)

    @property
    def finished(self) -> bool:
        """Whether the finish reason is known; only usage and `[DONE]` can follow."""
        return self._finish_reason is not None

    def take(self, events: list[bytes]) -> ModelChunk | None:
        """What the events of one read add to the answer, with the finish reason where they say it, so that nobody waits
        for more. Raises `ModelIncomplete`, `ModelError`."""
        texts: list[str] = []
        calls: list[ToolCallDelta] = []
        for data in events:
            if self.done or data.startswith(DONE):
                self.done = True
                break
            for choice in self._chunk(data).choices:
                if choice.index == 0:
                    self._choice(choice, texts, calls)
        return ModelChunk(tuple(texts), tuple(calls), self._finish_reason) if texts or calls else None

    def end(self) -> ModelChunk:
        """The last chunk. Raises `ModelIncomplete` where the stream ended without a finish reason."""
        if self._finish_reason is None:
            raise self.incomplete("the stream ended without a finish_reason")
        usage = _usage(self._usage, self._prompt_bytes, len(self.partial.encode()) + self._call_bytes)
        head = self._head or _Head()
        model = _text(head.model) or self._upstream.model
        return ModelChunk(finish_reason=self._finish_reason, usage=usage, model=model, response_id=_text(head.id))

    def incomplete(self, what: str) -> ModelIncomplete:
        return self._upstream.fault(ModelIncomplete, what, partial=self.partial)

    def _chunk(self, data: bytes) -> _Chunk:
        try:
            chunk = _decode_chunk(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self.incomplete(f"the stream holds a chunk that is no JSON of the expected shape ({error})") from None
        if chunk.error:
            said = self._upstream.quote(error_text(chunk.error))
            raise self._upstream.fault(ModelError, f"error in the stream: {said}", partial=self.partial)
        if self._head is None:
            self._head = _decode_head(data)
        if chunk.usage is not None:
            self._usage = chunk.usage
        return chunk

    def _choice(self, choice: _StreamChoice, texts: list[str], calls: list[ToolCallDelta]) -> None:
        if delta := choice.delta:
            if text := delta.content or delta.refusal:
                self._texts.append(text)
                texts.append(text)
            for call in delta.tool_calls or ():
                function = call.function or _Function()
                calls.append(ToolCallDelta(call.index, call.id or "", function.name or "", function.arguments or ""))
                self._call_bytes += len(function.arguments or "")
            if text or delta.tool_calls or delta.reasoning or delta.reasoning_content:
                self.started = True
        if choice.finish_reason is not None:
            self._finish_reason = _FINISH_REASONS.get(choice.finish_reason)
            if self._finish_reason is None:
                raise self.incomplete(f"the stream ended with finish_reason {choice.finish_reason!r}")


def _usage(reported: _Usage | None, prompt_bytes: int, said_bytes: int) -> Usage:
    if reported is None or reported.prompt_tokens is None or reported.completion_tokens is None:
        return Usage(-(-prompt_bytes // BYTES_PER_TOKEN), -(-said_bytes // BYTES_PER_TOKEN), estimated=True)
    return Usage(
        reported.prompt_tokens,
        reported.completion_tokens,
        cached_tokens=_detail(reported.prompt_tokens_details, "cached_tokens"),
        reasoning_tokens=_detail(reported.completion_tokens_details, "reasoning_tokens"),
    )


def _detail(details: Any, name: str) -> int:
    count = details.get(name) if isinstance(details, dict) else None
    return count if isinstance(count, int) else 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
