"""Arguments for a tool, read out of a message by the tool's JSON Schema.

Each property takes what the message offers for it: the value after the property's own name ("base of 10"), an enum
value that is mentioned, a number, a quoted string, an e-mail address, a date, "in CITY". A required property that
finds nothing takes its default or the best phrase left, so that the result always satisfies required, type and enum.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rayflow.language.words import STOP, stem, words

Json = Any
"""A JSON value: the shapes are dictated by somebody else's schema."""

_NUMBER = re.compile(r"(?<![\w.^])-?\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?(?![\d^]|\.\d)", re.I)
_QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|(?<!\w)'([^']+)'(?!\w)|`([^`]+)`")
_CAPITALISED = r"[A-ZÀ-Þ][\w'’.-]*(?:\s+(?:[A-ZÀ-Þ][\w'’.-]*|de|la|of|the|del|am|upon))*(?:,\s*[A-ZÀ-Þ][\w'’-]*)?"
_PLACE = re.compile(rf"\b(in|at|to|from|for|near|of|around|between|and)\s+(?:the\s+)?({_CAPITALISED})")
_NAME = re.compile(rf"\b(?:named|called|name is|with|for|to|from|by|am|i'm)\s+({_CAPITALISED})", re.I)
_FORMS = {
    "email": re.compile(r"[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64})+"),
    "url": re.compile(r"https?://[^\s\"'<>]+[^\s\"'<>.,;!?)]"),
    "date": re.compile(
        r"\b\d{4}-\d\d-\d\d\b|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b|\b(?:today|tomorrow|tonight|yesterday)\b"
        r"|\b(?:january|february|march|april|may|june|july|august|september|october|november|december)"
        r"\s+\d{1,2}(?:st|nd|rd|th)?(?:,?\s+\d{4})?\b|\b(?:next\s+)?(?:mon|tues|wednes|thurs|fri|satur|sun)day\b",
        re.I,
    ),
    "time": re.compile(r"\b\d{1,2}:\d\d(?:\s?[ap]m)?\b|\b\d{1,2}\s?[ap]m\b|\b(?:noon|midnight)\b", re.I),
}
_PLACES = frozenset(
    {"city", "location", "place", "country", "town", "destination", "origin", "state", "region", "address", "area"}
)
_PREPOSITIONS = {"origin": "from", "start": "from", "source": "from", "destination": "to", "end": "to", "target": "to"}
_NAMES = frozenset({"name", "person", "user", "customer", "player", "team", "company", "actor", "artist", "author"})
_NEGATIONS = frozenset({"no", "not", "without", "don't", "exclude", "off", "false"})
MAX_DEPTH = 6


def arguments(schema: dict[str, Any], text: str, tool_words: Sequence[str] = ()) -> Json:
    """An object for `schema` (that of the tool's parameters) out of `text`. Words of the tool's name are no values."""
    return _Reader(schema, text, tool_words).object(schema, 0)


class _Reader:
    """One reading of one message; a value that was used is not offered again."""

    def __init__(self, root: dict[str, Any], text: str, tool_words: Sequence[str]) -> None:
        self._root = root
        self._text = text
        self._tool_stems = {stem(word) for word in tool_words}
        self._numbers = [(match.start(), _to_number(match[0])) for match in _NUMBER.finditer(text)]
        self._reserved: dict[str, tuple[int, float | int]] = {}
        self._places = [(match[1], match[2].rstrip(".")) for match in _PLACE.finditer(text)]
        self._quoted = [next(group for group in match.groups() if group) for match in _QUOTED.finditer(text)]

    def object(self, schema: dict[str, Any], depth: int) -> dict[str, Json]:
        properties = schema.get("properties")
        required = schema.get("required") or []
        values: dict[str, Json] = {}
        if not isinstance(properties, dict) or depth > MAX_DEPTH:
            return values
        # A number belongs to the property named beside it; what is left goes round, required properties first.
        for name in properties:
            self._reserve(name)
        for name in sorted(properties, key=lambda name: name not in required):
            prop = self._resolve(properties[name])
            value = self._value(name, prop, name in required, depth)
            if value is not None:
                values[name] = value
        return {name: values[name] for name in properties if name in values}

    def _value(self, name: str, schema: dict[str, Any], required: bool, depth: int) -> Json:
        """A value for one property; None leaves an optional one out."""
        choices = schema.get("enum") or ([schema["const"]] if "const" in schema else None)
        if choices:
            mentioned = next((choice for choice in choices if self._mentions(str(choice))), None)
            return mentioned if mentioned is not None or not required else schema.get("default", choices[0])
        match _type(schema):
            case "integer" | "number" as kind:
                value = self._number(name, integer=kind == "integer", near_only=not required)
                return value if value is not None or not required else schema.get("default", schema.get("minimum", 0))
            case "boolean":
                return self._boolean(name, schema) if required or self._mentions_words(name) else None
            case "array":
                return self._array(name, schema, depth) if required or self._mentions_words(name) else None
            case "object":
                return self.object(schema, depth + 1) if required else None
            case "null":
                return None
            case _:
                found = self._string(name, schema)
                return found if found is not None or not required else schema.get("default") or self._phrase()

    def _reserve(self, name: str) -> None:
        """Keep the number beside a word of `name` for it: "base of 10", "5 days"."""
        for word in map(re.escape, _words_of(name)):
            before = re.search(rf"\b{word}\w*\b(?:\W+[a-z]+){{0,3}}?\W+(?=-?\d)", self._text, re.I)
            after = re.search(rf"(?<![\w.])-?\d[\d.,]{{0,20}}\s?-?(?={word})", self._text, re.I)
            wanted = {before.end() if before else -1, after.start() if after else -1}
            entry = next((entry for entry in self._numbers if entry[0] in wanted), None)
            if entry is not None:
                self._numbers.remove(entry)
                self._reserved[name] = entry
                return

    def _number(self, name: str, *, integer: bool, near_only: bool) -> float | int | None:
        """The number reserved for `name`, or the next free one where any will do."""
        entries = [self._reserved[name]] if name in self._reserved else [] if near_only else self._numbers
        for entry in entries:
            if not integer or float(entry[1]).is_integer():
                if entry in self._numbers:
                    self._numbers.remove(entry)
                return int(entry[1]) if integer else entry[1]
        return None

    def _boolean(self, name: str, schema: dict[str, Any]) -> bool:
        if not self._mentions_words(name):
            return bool(schema.get("default", False))
        return not _NEGATIONS & {word.lower() for word in words(self._text)}

    def _array(self, name: str, schema: dict[str, Any], depth: int) -> list[Json]:
        items = self._resolve(schema.get("items") or {})
        if items.get("enum"):
            return [choice for choice in items["enum"] if self._mentions(str(choice))] or items["enum"][:1]
        match _type(items):
            case "integer" | "number" as kind:
                numbers = [value for _, value in self._numbers if kind == "number" or float(value).is_integer()]
                self._numbers.clear()
                return [int(value) for value in numbers] if kind == "integer" else numbers
            case "string":
                quoted, self._quoted = self._quoted, []
                return quoted or [part for part in re.split(r"\s*,\s*(?:and\s+)?|\s+and\s+", self._phrase()) if part]
            case _:
                value = self._value(name, items, True, depth + 1)
                return [] if value is None else [value]

    def _string(self, name: str, schema: dict[str, Any]) -> str | None:
        wanted = set(_words_of(name)) | {str(schema.get("format", "")).lower()}
        for form, pattern in _FORMS.items():
            if form in wanted or (form == "url" and wanted & {"uri", "link"}) or (form == "date" and "day" in wanted):
                match = pattern.search(self._text)
                return match[0] if match else None
        if self._quoted:
            return self._quoted.pop(0)
        if _PLACES & wanted and self._places:
            return self._place(wanted)
        if _NAMES & wanted and (match := _NAME.search(self._text)):
            return match[1].rstrip(".")
        for word in _words_of(name):
            if match := re.search(rf"\b{re.escape(word)}\s*(?:is|=|:|of|to)\s*([\w@.+-]*[\w+])", self._text, re.I):
                return match[1]
        return None

    def _place(self, wanted: set[str]) -> str:
        """The place after the preposition that suits the property, or the next one."""
        suiting = {_PREPOSITIONS[word] for word in wanted & _PREPOSITIONS.keys()}
        entry = next((entry for entry in self._places if entry[0] in suiting), self._places[0])
        self._places.remove(entry)
        return entry[1]

    def _phrase(self) -> str:
        """The longest run of words that are neither stop words nor part of the tool's name; the whole text if none."""
        runs: list[list[str]] = [[]]
        for word in re.findall(r"[^\s,;:?!\"]+", self._text):
            bare = word.strip(".()'")
            if bare.lower() in STOP or stem(bare) in self._tool_stems or not bare:
                runs.append([])
            else:
                runs[-1].append(bare)
        return " ".join(sorted(runs, key=len)[-1]) or self._text.strip()

    def _mentions(self, value: str) -> bool:
        return (
            re.search(rf"(?<!\w){re.escape(value.replace('_', ' '))}(?!\w)", self._text.replace("_", " "), re.I)
            is not None
        )

    def _mentions_words(self, name: str) -> bool:
        return {stem(word) for word in _words_of(name)} <= {stem(word) for word in words(self._text)}

    def _resolve(self, schema: Json) -> dict[str, Any]:
        """The schema itself, behind `$ref` and the first usable branch of anyOf, oneOf or allOf."""
        for _ in range(MAX_DEPTH):
            if not isinstance(schema, dict):
                return {}
            branches = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
            if isinstance(ref := schema.get("$ref"), str):
                schema = self._root
                for key in ref.removeprefix("#/").split("/"):
                    schema = schema.get(key, {}) if isinstance(schema, dict) else {}
            elif branches:
                schema = next((branch for branch in branches if branch.get("type") != "null"), {})
            else:
                return schema
        return {}


def _type(schema: dict[str, Any]) -> str:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((entry for entry in kind if entry != "null"), "null")
    return str(kind)


def _words_of(name: str) -> list[str]:
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def _to_number(text: str) -> float | int:
    plain = text.replace(",", "")
    return float(plain) if re.search(r"[.eE]", plain) else int(plain)
