"""What a call costs: one calculation for budgets and for the log."""

from __future__ import annotations

import pytest

from rayflow.chat import Usage
from rayflow.config.schema import ModelConfig
from rayflow.policies.prices import entry_of


def test_prices_are_of_a_million_tokens() -> None:
    entry = entry_of(ModelConfig(name="m", provider="openai", price_prompt=2.0, price_completion=8.0))
    assert (entry.name, entry.provider, entry.priced) == ("m", "openai", True)
    assert entry.cost(Usage(1_000_000, 500_000)) == pytest.approx(6.0)


def test_what_the_endpoint_had_in_its_cache_has_its_own_price() -> None:
    cheap = entry_of(ModelConfig(name="m", price_prompt=2.0, price_cached_prompt=0.5))
    assert cheap.cost(Usage(1_000_000, 0, cached_tokens=400_000)) == pytest.approx(0.6 * 2.0 + 0.4 * 0.5)
    alike = entry_of(ModelConfig(name="m", price_prompt=2.0))
    assert alike.cost(Usage(1_000_000, 0, cached_tokens=400_000)) == pytest.approx(2.0)
    free = entry_of(ModelConfig(name="m", price_prompt=2.0, price_cached_prompt=0.0))
    assert free.cost(Usage(1_000_000, 0, cached_tokens=2_000_000)) == 0.0


def test_an_entry_without_a_price_says_so() -> None:
    assert not entry_of(ModelConfig(name="m")).priced
