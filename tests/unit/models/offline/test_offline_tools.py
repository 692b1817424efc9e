"""Which tool is called, and that its arguments always satisfy the schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.chat import Message, ModelParams, ModelRequest
from rayflow.errors import ValidationError
from rayflow.models.offline.arguments import arguments
from rayflow.models.offline.model import OfflineModel
from rayflow.models.offline.tools import tool_call


def tool(name: str, required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": required or list(properties)}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


STRING, INTEGER, NUMBER, BOOLEAN = ({"type": kind} for kind in ("string", "integer", "number", "boolean"))
WEATHER = tool("get_weather", city=STRING)
EMAIL = tool("sendEmail", to={"type": "string", "format": "email"}, subject=STRING)
AREA = tool("geometry.triangle_area", ["base", "height"], base=INTEGER, height=INTEGER, unit=STRING)
ALL = [WEATHER, EMAIL, AREA]


def called(text: str, **params: Any) -> tuple[str, dict[str, Any]] | None:
    call = tool_call(ModelParams(tools=params.pop("tools", ALL), **params), text)
    return None if call is None else (call.function.name, json.loads(call.function.arguments))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the weather in New York?", ("get_weather", {"city": "New York"})),
        ("please get_weather for Rome", ("get_weather", {"city": "Rome"})),
        ('Send an email to bob@x.org, "See you"', ("sendEmail", {"to": "bob@x.org", "subject": "See you"})),
        ("area of a triangle, base 10 cm and height 5", ("geometry.triangle_area", {"base": 10, "height": 5})),
        ("Triangle area with a height of 5 and a base of 10", ("geometry.triangle_area", {"base": 10, "height": 5})),
    ],
)
def test_a_tool_is_called_by_its_name_or_the_words_of_it(text: str, expected: tuple[str, dict[str, Any]]) -> None:
    assert called(text) == expected


@pytest.mark.parametrize("text", ["Hello", "I got an email", "The area is large", ""])
def test_part_of_a_name_calls_nothing(text: str) -> None:
    assert called(text) is None


def test_tool_choice_decides_before_the_words_do() -> None:
    assert called("What is the weather in Rome?", tool_choice="none") is None
    named = {"type": "function", "function": {"name": "sendEmail"}}
    assert (called("weather in Rome", tool_choice=named) or ("",))[0] == "sendEmail"
    assert (called("nothing of it", tool_choice="required") or ("",))[0] == "get_weather"
    with pytest.raises(ValidationError, match="'nope', which is not among tools"):
        called("x", tool_choice={"type": "function", "function": {"name": "nope"}})


@pytest.mark.parametrize("declared", [{}, {"function": {}}, {"function": {"name": "f", "parameters": []}}])
def test_a_tool_that_is_no_function_is_refused(declared: dict[str, Any]) -> None:
    if declared.get("function", {}).get("parameters") == []:
        declared["function"]["parameters"] = ["not a schema"]
    with pytest.raises(ValidationError, match=r"tools\[0\]"):
        called("x", tools=[declared])


def test_the_same_message_makes_the_same_call() -> None:
    request = ModelRequest([Message("user", "weather in Rome")], ModelParams(tools=ALL))
    assert OfflineModel().reply(request) == OfflineModel().reply(request)


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"enum": ["celsius", "fahrenheit"]}, "in Fahrenheit please", "fahrenheit"),
        ({"enum": ["celsius", "fahrenheit"]}, "warm?", "celsius"),
        ({"type": "string", "enum": ["in_stock", "sold_out"]}, "is it sold out", "sold_out"),
        ({"type": "string", "format": "date"}, "on 2026-11-05 at noon", "2026-11-05"),
        ({"type": "string", "format": "uri"}, "see https://x.org/a?b=1.", "https://x.org/a?b=1"),
        ({"type": "integer"}, "take 1,200 or 2.5", 1200),
        ({"type": "integer"}, "weighs 70kg", 70),
        ({"type": "number"}, "it is -2.5 today", -2.5),
        ({"type": "integer"}, "none given", 0),
        ({"type": "integer", "minimum": 3}, "none given", 3),
        ({"type": "integer", "default": 9}, "none given", 9),
        ({"type": "boolean"}, "set the value on", True),
        ({"type": "boolean"}, "without the value", False),
        ({"type": "array", "items": {"type": "number"}}, "sum 1, 2.5 and 3", [1, 2.5, 3]),
        ({"type": "array", "items": {"type": "string"}}, 'tags "a b" and "c"', ["a b", "c"]),
        ({"type": ["string", "null"]}, "value is blue", "blue"),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, "take 4", 4),
        ({"$ref": "#/$defs/size"}, "take 4", 4),
        ({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}, "n of 4", {"n": 4}),
    ],
)
def test_a_value_is_read_by_its_schema(schema: dict[str, Any], text: str, value: object) -> None:
    whole = {"properties": {"value": schema}, "required": ["value"], "$defs": {"size": {"type": "integer"}}}
    assert arguments(whole, text) == {"value": value}


def test_optional_properties_need_evidence() -> None:
    whole = {"properties": {"city": STRING, "days": INTEGER, "unit": {"enum": ["c", "f"]}}, "required": []}
    assert arguments(whole, "weather in Rome, 42 times") == {"city": "Rome"}
    assert arguments(whole, "weather in Rome for 3 days") == {"city": "Rome", "days": 3}


def test_places_follow_their_prepositions() -> None:
    whole = {"properties": {"destination": STRING, "origin": STRING}, "required": ["destination", "origin"]}
    assert arguments(whole, "fly from Oslo to New York") == {"destination": "New York", "origin": "Oslo"}


def test_a_required_string_takes_the_best_phrase_left() -> None:
    whole = {"properties": {"query": STRING}, "required": ["query"]}
    assert arguments(whole, "please search for cheap red shoes", ["search"]) == {"query": "cheap red shoes"}


SCHEMAS = st.fixed_dictionaries(
    {
        "properties": st.dictionaries(
            st.sampled_from(["city", "number", "email", "date", "name", "flag", "x"]),
            st.sampled_from([STRING, INTEGER, NUMBER, BOOLEAN, {"enum": ["a", 2]}, {"type": "array", "items": STRING}]),
        )
    }
)
TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list}


@given(SCHEMAS, st.text(max_size=80))
def test_whatever_is_said_the_arguments_satisfy_required_type_and_enum(schema: dict[str, Any], text: str) -> None:
    properties = schema["properties"]
    found = arguments({**schema, "required": list(properties)}, text)
    assert set(found) == set(properties)
    for name, prop in properties.items():
        assert found[name] in prop["enum"] if "enum" in prop else isinstance(found[name], TYPES[prop["type"]])
