"""Exact token counts come from a package, or it is said which one is missing."""

from __future__ import annotations

import sys

import pytest

from rayflow.errors import ConfigurationError
from rayflow.models.tokenizers import tokenizer


def test_a_vocabulary_counts_as_openai_does() -> None:
    pytest.importorskip("rs_bpe", reason="the extra `tokens` is not installed")
    text = "Здравствуйте! Мой заказ должен был прийти в понедельник."
    assert tokenizer("o200k_base")("hello world") == 2
    assert tokenizer("o200k_base")(text) < tokenizer("cl100k_base")(text)


def test_without_the_package_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rs_bpe", None)
    with pytest.raises(ConfigurationError, match=r"rayflow\[tokens\]"):
        tokenizer("o200k_base")
