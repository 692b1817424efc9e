"""The embedded offline model: what an agent talks to where no endpoint is configured.

It is no language model. It finds and arranges sentences (answers), calls a declared tool that a message names
(tools), and counts tokens by its own rule (tokens). Same messages, parameters and seed: same answer. It needs no
network and no weights and never waits, so it also serves rehearsals, tests and load. docs/offline-model.md says what
to expect of it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import msgspec

from rayflow.chat import FinishReason, Message, ModelChunk, ModelReply, ModelRequest, ToolCall, ToolCallDelta, Usage
from rayflow.models.offline import tokens
from rayflow.models.offline.answers import answer
from rayflow.models.offline.arguments import arguments
from rayflow.models.offline.conversation import Conversation
from rayflow.models.offline.knowledge import Knowledge
from rayflow.models.offline.tools import tool_call

DESCRIPTION = "Embedded extractive responder: finds and arranges sentences. It is not a language model."


class OfflineModel:
    """Implements `ModelClient` (rayflow.runtime.ports). `knowledge`: path of a text file, or None.

    Raises `ConfigurationError` for a knowledge file it cannot read.
    """

    def __init__(self, name: str = "offline", knowledge: str | None = None) -> None:
        self.name = name
        self._knowledge = Knowledge.read(knowledge) if knowledge else Knowledge()

    def reply(self, request: ModelRequest) -> ModelReply:
        """The whole answer, at once. Raises `ValidationError` for tools that are no functions."""
        params = request.params
        conversation = Conversation.of(request.messages)
        prompt_tokens = sum(_tokens(message) for message in request.messages)
        call = None if conversation.tool_results else tool_call(params, conversation.asked)
        if call is not None:
            usage = Usage(prompt_tokens, _call_tokens(call))
            return ModelReply("", "tool_calls", usage, self.name, [call])
        text = answer(conversation, self._knowledge, params.seed)
        text = _shaped(text, conversation.asked, params.response_format)
        text, finish_reason = _limited(text, params.stop, params.max_completion_tokens or params.max_tokens)
        return ModelReply(text, finish_reason, Usage(prompt_tokens, tokens.count(text)), self.name)

    async def complete(self, request: ModelRequest) -> ModelReply:
        return self.reply(request)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        reply = self.reply(request)
        for piece in tokens.pieces(reply.text):
            yield ModelChunk((piece,))
        for index, call in enumerate(reply.tool_calls):
            yield ModelChunk(tool_calls=(ToolCallDelta(index, call.id, call.function.name, call.function.arguments),))
        yield ModelChunk(finish_reason=reply.finish_reason, usage=reply.usage)

    async def close(self) -> None:
        """Nothing is held."""


def _tokens(message: Message) -> int:
    return tokens.count(message.text) + sum(_call_tokens(call) for call in message.tool_calls or ())


def _call_tokens(call: ToolCall) -> int:
    return tokens.count(call.function.name) + tokens.count(call.function.arguments)


def _shaped(text: str, asked: str, response_format: dict[str, object] | None) -> str:
    """The answer as JSON where the caller asked for JSON: an object of their schema, or `{"answer": text}`."""
    match response_format:
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return msgspec.json.encode(arguments(schema, asked)).decode()
        case {"type": "json_object"}:
            return msgspec.json.encode({"answer": text}).decode()
    return text


def _limited(text: str, stop: list[str] | None, max_tokens: int | None) -> tuple[str, FinishReason]:
    """The text up to the first stop sequence, then up to `max_tokens`."""
    ends = [at for sequence in stop or () if sequence and (at := text.find(sequence)) >= 0]
    if ends:
        text = text[: min(ends)]
    if max_tokens is not None and tokens.count(text) > max_tokens:
        return tokens.cut(text, max_tokens), "length"
    return text, "stop"
