"""The log keeps of questions and answers what the configuration allows, and no more."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgspec

from rayflow.chat import Message
from rayflow.config.schema import MonitoringConfig
from rayflow.policies.capture import Capture, capture

SECRET = "I am bob@x.de"


def kept(how: str, **settings: Any) -> Capture:
    made = capture(MonitoringConfig(capture=how, **settings))  # type: ignore[arg-type]
    assert made is not None
    return made


def test_by_default_and_without_a_log_nothing_is_kept() -> None:
    assert capture(MonitoringConfig()) is None
    assert capture(MonitoringConfig(capture="full", event_log=False)) is None


def test_a_hash_shows_which_texts_are_equal() -> None:
    hashed = kept("hashed")
    assert hashed.text(SECRET).content == f"sha256:{sha256(SECRET.encode()).hexdigest()}"
    assert hashed.text("x" * 100_000) == hashed.text("x" * 100_000) != hashed.text("x" * 100_001)


def test_redacted_text_says_what_was_replaced() -> None:
    assert kept("redacted").text(SECRET) == ("I am [email]", {"redactions": {"email": 1}})
    assert kept("redacted", redact_patterns=["I am"]).text(SECRET).content == "[redacted] [email]"
    assert kept("full").text(SECRET) == (SECRET, {})


def test_long_text_is_cut_and_says_how_long_it_was() -> None:
    assert kept("full", capture_max_chars=100).text("x" * 101) == ("x" * 100, {"content_chars": 101})
    assert kept("full", capture_max_chars=101).text("x" * 101) == ("x" * 101, {})


def test_a_secret_that_crosses_the_limit_is_found() -> None:
    text = "x" * 90 + " password: " + "s3cret" * 10
    cut = kept("redacted", capture_max_chars=105).text(text)
    assert cut.content == ("x" * 90 + " password: [password]")[:105]


def test_nothing_that_was_not_searched_is_kept() -> None:
    cut = kept("redacted", capture_max_chars=100).text("a@b.cd " * 400 + "z" * 5000)
    assert cut.content == ("[email] " * 400)[:100]
    assert cut.notes is not None
    assert cut.notes["content_chars"] == 7800


def test_of_one_message_the_text_is_kept_and_of_several_a_list() -> None:
    assert kept("full").question([Message("user", "hi")]).content == "hi"
    several = [Message("user", SECRET), Message("assistant", 'say "c@d.ef"'), Message("user", "why")]
    content, notes = kept("redacted").question(several)
    assert [message.text for message in msgspec.json.decode(content, type=list[Message])] == [
        "I am [email]",
        'say "[email]"',
        "why",
    ]
    assert notes == {"redactions": {"email": 2}}


def test_text_that_is_no_unicode_is_kept_as_far_as_it_is() -> None:
    for how in ("hashed", "redacted", "full"):
        kept(how).text("a\udc80b").content.encode()
