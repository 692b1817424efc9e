"""Patterns of users run on RE2, and one that it refuses is a fault of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayflow.config.load import load
from rayflow.config.patterns import MAX_BYTES, compiled, problem
from rayflow.errors import ConfigurationError


@pytest.mark.parametrize("pattern", ["a+b", "(?i)secret", r"\bACME-\d+\b", "(a+)+", "x" * MAX_BYTES, r"\pL{3}"])
def test_what_takes_linear_time_can_be_used(pattern: str) -> None:
    assert problem(pattern) == ""
    compiled(pattern)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(?=a)b", "invalid perl operator"),
        (r"(a)\1", "invalid escape sequence"),
        ("(", "missing )"),
        ("a{1000}{1000}", "bad repetition operator"),
        ("x" * (MAX_BYTES + 1), "longer than 1024 bytes"),
        ("ü" * 513, "longer than 1024 bytes"),
        ("a*", "matches where there is nothing"),
    ],
)
def test_what_cannot_be_used_says_why(pattern: str, why: str) -> None:
    assert why in problem(pattern)


def test_a_refused_pattern_is_a_fault_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "team.yaml"
    file.write_text("name: team\nagents:\n- name: a\nmonitoring:\n  redact_patterns:\n  - ACME-[0-9]+\n  - (?=x)y\n")
    with pytest.raises(ConfigurationError) as caught:
        load(file)
    assert "team.yaml:7:5: monitoring.redact_patterns.1: expected a pattern that RE2 takes" in str(caught.value)
    assert "(invalid perl operator: (?=), got '(?=x)y'" in str(caught.value)


def test_a_pattern_that_is_slow_elsewhere_is_not_slow_here() -> None:
    assert compiled("^(a+)+x").search(b"a" * 1_000_000) is None
