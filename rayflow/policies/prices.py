"""What a call of a model costs: the tokens it used at the prices of its entry in `models`.

One place says so for all: what a budget takes out of an account is what the event log shows. Prices are the user's, in
US dollars for a million tokens. What of a prompt was in the endpoint's cache has a price of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from rayflow.chat import Usage
from rayflow.config.schema import ModelConfig


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of `models`, as those know it who do not call it themselves. Prices are of a million tokens."""

    name: str
    provider: str = ""
    prompt: float = 0.0
    cached: float = 0.0
    completion: float = 0.0

    @property
    def priced(self) -> bool:
        return bool(self.prompt or self.cached or self.completion)

    def cost(self, usage: Usage) -> float:
        """In US dollars; nothing where there is no price."""
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        told = (usage.prompt_tokens - cached) * self.prompt + cached * self.cached
        return (told + usage.completion_tokens * self.completion) / 1e6


def entry_of(model: ModelConfig) -> Entry:
    cached = model.price_cached_prompt
    return Entry(
        model.name,
        model.provider,
        model.price_prompt,
        model.price_prompt if cached is None else cached,
        model.price_completion,
    )
