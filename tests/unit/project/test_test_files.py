"""The tests as files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[2]


def test_no_two_test_files_share_a_name() -> None:
    """Without packages pytest knows a file by its name, and refuses the second one as soon as both are collected."""
    names = Counter(path.name for path in TESTS.rglob("test_*.py"))
    assert [name for name, times in names.items() if times > 1] == []
