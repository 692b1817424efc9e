"""What happens when something fails."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from rayflow.config.sections.base import Mismatch, ReferenceProblems, Section


class BreakerConfig(Section):
    """A model that keeps failing is not called for a while; then a single call tries it."""

    enabled: bool = True
    """Off: every call is made."""
    consecutive_failures: Annotated[int, Field(ge=1, le=1000)] = 5
    """So many failures in a row open the breaker."""
    failure_rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """This share of failures within `window_s` opens it, too."""
    min_calls: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Fewest calls within `window_s` for a rate to count."""
    window_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """How far back failures count."""
    open_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """How long it stays open the first time; it doubles each time the probe fails."""
    max_open_s: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """Longest time between two probes."""

    @model_validator(mode="after")
    def _order(self) -> BreakerConfig:
        if self.max_open_s < self.open_s:
            raise ReferenceProblems(
                [Mismatch("max_open_s", f"at least open_s ({self.open_s:g})", f"{self.max_open_s:g}")]
            )
        return self


class HedgingConfig(Section):
    """Ask a second replica when the first one takes unusually long; the first answer wins. It costs money: off by
    default. Only for answers that are not streamed, out of the retry budget."""

    enabled: bool = False
    """Hedge."""
    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Wait for this quantile of the last responses first."""
    min_calls: Annotated[int, Field(ge=1, le=10_000)] = 20
    """Responses that must be known before."""


class ResilienceConfig(Section):
    """What happens when something fails. Retries of a model's calls: `models.N.retries`."""

    breaker: BreakerConfig = BreakerConfig()
    """Per entry of `models`."""
    hedging: HedgingConfig = HedgingConfig()
    """Second calls."""
    retry_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Retry budget: this share of the calls of the last ten seconds."""
    retry_floor_per_s: Annotated[float, Field(ge=0, le=1000)] = 10.0
    """Retry budget: and so many per second."""
    degraded_message: str = ""
    """The answer when the agent, its fallback models and its fallback agent have all failed; empty: the error."""
