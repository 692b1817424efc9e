from __future__ import annotations

import pytest

from rayflow.config.rules import find, locate, root


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "a mapping"),
        ("agents.3.seed", "a whole number between -9223372036854775808 and 9223372036854775807 or null"),
        ("processing.min_length", "a whole number of at least 0"),
        ("streaming.keepalive_s", "a number above 0 and at most 600"),
        ("session.store", "one of sqlite, memory, postgres, redis"),
        ("routing.rules.0.target_agents", "a list of names"),
        ("models.0.headers.X-Any", "text"),
    ],
)
def test_a_rule_says_in_plain_words_what_it_expects(path: str, expected: str) -> None:
    rule = find(path)
    assert rule is not None
    assert rule.expected == expected


@pytest.mark.parametrize("path", ["agent", "agents.x", "agents.0.nam", "name.x", "processing.0"])
def test_an_unknown_path_has_no_rule(path: str) -> None:
    assert find(path) is None


def test_pydantic_labels_of_unions_are_not_part_of_the_path() -> None:
    assert locate(("models", 0, "base_url", "list[str]", 1))[0] == "models.0.base_url.1"
    assert locate(("models", 0, "base_url", "str"))[0] == "models.0.base_url"


def test_secrets_are_known_wherever_they_may_stand() -> None:
    secret = ["models.0.api_key", "models.0.headers", "models.0.headers.X", "security.api_keys", "security.api_keys.0"]
    assert all(rule.secret for path in secret if (rule := find(path)))
    assert not any(rule.secret for path in ("", "name", "models", "security") if (rule := find(path)))


def test_the_nearest_key_is_found_and_a_far_one_is_not() -> None:
    assert root().nearest("agent") == "agents"
    assert root().nearest("Routing") == "routing"
    assert root().nearest("zzz") is None
    assert root().nearest("agents" * 20) is None
