"""What looks secret does not get into a log; what does not stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.config.schema import MonitoringConfig
from rayflow.events import Event
from rayflow.policies.redaction import BUILT_IN, Redactor, redactor


@pytest.mark.parametrize(
    ("text", "clean", "counts"),
    [
        ("Write to bob.smith+x@mail.example.com.", "Write to [email].", {"email": 1}),
        ("grüße@müller.de, a@b.c", "[email], [email]", {"email": 2}),
        ("password: hunter2, please", "password: [password], please", {"password": 1}),
        ('{"password": "hunter2", "a": 1}', '{"password": "[password]", "a": 1}', {"password": 1}),
        ("mein Passwort ist geheim1", "mein Passwort ist [password]", {"password": 1}),
        ("postgres://u:p4ss@db/x", "postgres://u:[password]@db/x", {"password": 1}),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer [bearer_token]", {"bearer_token": 1}),
        ("Bearer 0123456789abcdef", "Bearer [bearer_token]", {"bearer_token": 1}),
        ("it is eyJhbGciOiJI.eyJzdWIiOiIx.c2ln", "it is [bearer_token]", {"bearer_token": 1}),
        ("key sk-proj-abcdefghijklmnopqrst", "key [api_key]", {"api_key": 1}),
        ("AKIAIOSFODNN7EXAMPLE and api_key=abc123def", "[api_key] and api_key=[api_key]", {"api_key": 2}),
        ("ask me@x.org, password=abc", "ask [email], password=[password]", {"email": 1, "password": 1}),
    ],
)
def test_addresses_passwords_keys_and_tokens_are_replaced(text: str, clean: str, counts: dict[str, int]) -> None:
    assert BUILT_IN.redact(text) == (clean, counts)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "the password is wrong",
        "model 'gpt' at http://127.0.0.1:8000/v1: HTTP 500: internal error",
        "meet at 10:30 @ the bar",
        "basic arithmetic is fun for the bearer of certificates",
        "run_0193c1f0a1b2c3d4 of agent/technical/2 failed: 你好",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert BUILT_IN.redact(text) == (text, {})


@given(st.text())
def test_what_was_replaced_once_is_not_found_again(text: str) -> None:
    assert BUILT_IN.redact(BUILT_IN.redact(f"{text} a@b.cd password: x1 {text}").text).counts == {}


def test_patterns_of_ones_own_come_after_the_built_in_ones() -> None:
    own = Redactor([r"ACME-[0-9]+", r"(?i)project \w+"])
    assert own.redact("ACME-77 of Project Zeus by z@acme.com") == (
        "[redacted] of [redacted] by [email]",
        {"email": 1, "own": 2},
    )


def test_text_that_is_no_unicode_is_searched_like_any_other() -> None:
    assert BUILT_IN.redact("x\udc80 bob@x.de").text == "x? [email]"


def test_an_event_has_a_clean_error_message_and_says_how_much_was_replaced() -> None:
    event = Event("run.finished", 1, error_message="bob@x.de: no", data={"agents": ["a"], "redactions": {"email": 1}})
    clean = BUILT_IN.event(event)
    assert clean.error_message == "[email]: no"
    assert clean.data == {"agents": ["a"], "redactions": {"email": 2}}
    plain = Event("run.finished", 1, error_message="no")
    assert BUILT_IN.event(plain) is plain


def test_the_configuration_brings_its_own_patterns() -> None:
    assert redactor(MonitoringConfig()) is BUILT_IN
    assert redactor(MonitoringConfig(redact_patterns=["x+y"])).redact("axxyb").text == "a[redacted]b"
