"""The body of POST /v1/chat/completions, in OpenAI's names (openai 3.52, `CompletionCreateParams`).

Every parameter of OpenAI's is known here: those that change the answer are honoured or refused, those that only concern
OpenAI's own service are taken and ignored. Anything else is a mistake and is refused by name.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rayflow.api.decode import fault
from rayflow.api.problems import UnsupportedParameter
from rayflow.chat import Message, ModelParams

Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Tokens = Annotated[int, Meta(ge=1)]
Stop = Annotated[str, Meta(min_length=1)]

_FORMATS = ("text", "json_object", "json_schema")
_REFUSED = {
    "audio": "answers are text",
    "function_call": "use tool_choice",
    "functions": "declare functions in tools",
    "moderation": "configure policies in the workflow file",
    "web_search_options": "declare a tool for it",
}
_FUNCTION_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_TOOLS = 128


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatCompletionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends. `model`: the workflow, `auto` (the same) or one of its agents."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: Metadata | None = None
    user: str | None = None
    n: int | None = None
    modalities: list[str] | None = None

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    seed: int | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=4)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[dict[str, Any]], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    service_tier: str | None = None

    # Of OpenAI's service: taken and ignored.
    prediction: Any = None
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    safety_identifier: Any = None
    store: Any = None
    verbosity: Any = None

    # They would change the answer, and nothing here implements them: refused.
    audio: Any = None
    function_call: Any = None
    functions: Any = None
    moderation: Any = None
    web_search_options: Any = None

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def check(self) -> None:
        """Raises `ValidationError` or `UnsupportedParameter` for what types alone cannot say."""
        if self.n not in (None, 1):
            raise fault("n", "must be 1: a run has one answer")
        if self.modalities not in (None, ["text"]):
            raise UnsupportedParameter("modalities: only text is answered", param="modalities")
        for name, instead in _REFUSED.items():
            if getattr(self, name) is not None:
                raise UnsupportedParameter(f"{name} is not supported; {instead}", param=name)
        if self.stream_options is not None and not self.stream:
            raise fault("stream_options", "is only allowed with stream: true")
        if self.top_logprobs is not None and not self.logprobs:
            raise fault("top_logprobs", "is only allowed with logprobs: true")
        if self.response_format is not None and self.response_format.get("type") not in _FORMATS:
            raise fault("response_format.type", f"must be one of {', '.join(_FORMATS)}")
        names = [_function_name(tool, f"tools[{i}]") for i, tool in enumerate(self.tools or ())]
        if len(set(names)) < len(names):
            raise fault("tools", "two functions share a name")
        if self.tool_choice is not None:
            _check_tool_choice(self.tool_choice, names)

    def params(self) -> ModelParams:
        """The options for the model."""
        return ModelParams(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            max_completion_tokens=self.max_completion_tokens,
            seed=self.seed,
            stop=[self.stop] if isinstance(self.stop, str) else self.stop,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=self.logit_bias,
            logprobs=self.logprobs,
            top_logprobs=self.top_logprobs,
            tools=self.tools or None,
            tool_choice=self.tool_choice,
            parallel_tool_calls=self.parallel_tool_calls,
            response_format=self.response_format,
            reasoning_effort=self.reasoning_effort,
            user=self.user,
        )


def _function_name(tool: dict[str, Any], at: str) -> str:
    """The name of a declared function; a malformed declaration is refused here and never reaches a model."""
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict):
        raise fault(at, 'must be {"type": "function", "function": {...}}')
    name, parameters = function.get("name"), function.get("parameters")
    if not isinstance(name, str) or not _FUNCTION_NAME.fullmatch(name):
        raise fault(f"{at}.function.name", "must be 1 to 64 letters, digits, _ or -")
    if not isinstance(function.get("description") or "", str):
        raise fault(f"{at}.function.description", "must be text")
    if parameters is not None and not (isinstance(parameters, dict) and parameters.get("type", "object") == "object"):
        raise fault(f"{at}.function.parameters", "must be a JSON Schema of type object")
    return name


def _check_tool_choice(choice: str | dict[str, Any], names: list[str]) -> None:
    if isinstance(choice, str):
        if choice not in ("none", "auto", "required"):
            raise fault("tool_choice", "must be none, auto, required or a function")
        if choice == "required" and not names:
            raise fault("tool_choice", "is required, but tools is empty")
        return
    function = choice.get("function")
    if choice.get("type") != "function" or not isinstance(function, dict) or function.get("name") not in names:
        raise fault("tool_choice", "must name a function of tools")
