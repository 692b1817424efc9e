"""What is said to a model and what it answers, in OpenAI's vocabulary.

The structs encode (msgspec.json) to exactly the JSON that chat completions use, so a message is written once by a
client and never converted on its way to a model. Unset fields are left out.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class FunctionCall(msgspec.Struct, frozen=True):
    name: str
    arguments: str
    """JSON text, as the model wrote it: it may be malformed."""


class ToolCall(msgspec.Struct, frozen=True):
    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class ToolCallDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece of a streamed tool call; pieces with one `index` are concatenated."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One chat message. `content` is text, a list of content parts, or None (an assistant's bare tool call)."""

    role: str
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None

    @property
    def text(self) -> str:
        """The textual part of the content, parts joined by line breaks."""
        if isinstance(self.content, str):
            return self.content
        if self.content is None:
            return ""
        return "\n".join(part["text"] for part in self.content if isinstance(part.get("text"), str))


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens as the model's endpoint counted them; `estimated` where it reported none. `cached_tokens` are those of the
    prompt that it had in its cache, `reasoning_tokens` those of the answer that it thought with."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.estimated or other.estimated,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


class ModelParams(msgspec.Struct, frozen=True, omit_defaults=True):
    """Options of one model call under OpenAI's names. Encoded, it is the part of the request body that is neither
    model nor messages."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    seed: int | None = None
    stop: list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    user: str | None = None

    def over(self, defaults: ModelParams) -> ModelParams:
        """These options, with `defaults` where one is unset."""
        if self == NO_PARAMS:
            return defaults
        mine = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}
        return msgspec.structs.replace(defaults, **mine)


NO_PARAMS = ModelParams()


class ModelRequest(msgspec.Struct, frozen=True):
    """One call of a model. `deadline_s`: seconds from now within which the whole answer must be there."""

    messages: list[Message]
    params: ModelParams = ModelParams()
    deadline_s: float | None = None


class ModelChunk(msgspec.Struct, frozen=True):
    """What arrived of a streamed answer at once: `pieces` of text as the model cut them, mostly tokens. The last
    chunk of a stream carries `finish_reason` (one before it may, when the model has said it), and where they are known
    `usage`, the `model` that the endpoint names and the `response_id` that it gave its answer."""

    pieces: tuple[str, ...] = ()
    tool_calls: tuple[ToolCallDelta, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    model: str = ""
    response_id: str = ""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class ModelReply(msgspec.Struct, frozen=True):
    """A complete answer. `model` is the name the endpoint reports, `response_id` the id that it gave its answer."""

    text: str
    finish_reason: FinishReason
    usage: Usage
    model: str
    tool_calls: list[ToolCall] = []
    response_id: str = ""
