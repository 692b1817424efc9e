"""Which declared tool a message names.

A tool is called when the message holds its name, or all significant words of it: `get_weather`, `getWeather` and
`meteo.get_weather` all answer to "weather". Verbs that say nothing ("get", "find") do not count; verbs with an effect
("send", "delete") do, so nothing is sent because a noun fell.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from rayflow.chat import FunctionCall, ModelParams, ToolCall
from rayflow.errors import ValidationError
from rayflow.language.words import stem, words
from rayflow.models.offline.arguments import arguments

_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_PLAIN_WORDS = """
get find fetch search look lookup list show check calculate compute read query make do run call retrieve
by for of the to and from in api
"""
_PLAIN = frozenset(stem(word) for word in _PLAIN_WORDS.split())


class Tool(NamedTuple):
    name: str
    parameters: dict[str, Any]


def tool_call(params: ModelParams, text: str) -> ToolCall | None:
    """The call that `text` asks for, or that `tool_choice` demands. Raises `ValidationError` for unusable tools."""
    if not params.tools or params.tool_choice == "none":
        return None
    tools = [_tool(declared, number) for number, declared in enumerate(params.tools)]
    tool = _forced(tools, params.tool_choice) or _named(tools, text)
    if tool is None and params.tool_choice == "required":
        tool = tools[0]
    if tool is None:
        return None
    found = msgspec.json.encode(arguments(tool.parameters, text, name_words(tool.name))).decode()
    return ToolCall(id=f"call_{crc32(f'{tool.name}:{text}'.encode()):08x}", function=FunctionCall(tool.name, found))


def name_words(name: str) -> list[str]:
    """`getWeatherByCity`, `get_weather_by_city` and `weather.get-by-city` as lower-case words."""
    return [part.lower() for part in _PART.findall(name)]


def _tool(declared: dict[str, Any], number: int) -> Tool:
    function = declared.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise ValidationError(
            f"tools[{number}]: expected a function with a name", param=f"tools[{number}].function.name"
        )
    schema = function.get("parameters") or {}
    if not isinstance(schema, dict):
        raise ValidationError(
            f"tools[{number}]: parameters must be a JSON Schema", param=f"tools[{number}].function.parameters"
        )
    return Tool(function["name"], schema)


def _forced(tools: list[Tool], choice: str | dict[str, Any] | None) -> Tool | None:
    if not isinstance(choice, dict):
        return None
    function = choice.get("function")
    wanted = function.get("name") if isinstance(function, dict) else None
    for tool in tools:
        if tool.name == wanted:
            return tool
    raise ValidationError(f"tool_choice names {wanted!r}, which is not among tools", param="tool_choice")


def _named(tools: list[Tool], text: str) -> Tool | None:
    """The tool with most of its name in the text; the one declared first on a tie."""
    lowered = text.lower()
    said = {stem(word) for word in words(text)}
    best, best_score = None, 0
    for tool in tools:
        parts = {stem(part) for part in name_words(tool.name.rpartition(".")[2])}
        significant = parts - _PLAIN or parts
        if tool.name.lower() in lowered:
            score = 1000 + len(tool.name)
        else:
            score = len(significant) if significant and significant <= said else 0
        if score > best_score:
            best, best_score = tool, score
    return best
