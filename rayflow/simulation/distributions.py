"""Random amounts: a mean, and how far single ones are from it.

`cv` is the coefficient of variation, standard deviation over mean: 0 always the mean, 1 as irregular as an exponential.
Service times of language models are skewed to the right; lognormal with a cv of 1 to 2 fits most that are published.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from rayflow.config.schema import Section

Sampler = Callable[[random.Random], float]


class Distribution(Section):
    """A random amount. A plain number instead means: always that."""

    kind: Literal["constant", "exponential", "lognormal", "gamma", "uniform", "empirical"]
    """Its form. uniform: from 0 to twice the mean. empirical: one of `values`, each as likely."""
    mean: Annotated[float, Field(ge=0)] = 1.0
    """Mean; not for empirical."""
    cv: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Coefficient of variation of lognormal and gamma."""
    values: Annotated[list[Annotated[float, Field(ge=0)]], Field(max_length=100_000)] = []
    """What was measured; for empirical."""


Amount = Annotated[float, Field(ge=0)] | Distribution


def mean_of(amount: float | Distribution) -> float:
    """The expected value."""
    if not isinstance(amount, Distribution):
        return amount
    if amount.kind == "empirical":
        return math.fsum(amount.values) / len(amount.values) if amount.values else 0.0
    return amount.mean


def sampler(amount: float | Distribution) -> Sampler:
    """Draws from it."""
    if not isinstance(amount, Distribution) or amount.kind == "constant" or not mean_of(amount):
        value = mean_of(amount)
        return lambda rng: value
    mean, cv, values = amount.mean, amount.cv, amount.values
    match amount.kind:
        case "exponential":
            rate = 1 / mean
            return lambda rng: rng.expovariate(rate)
        case "uniform":
            return lambda rng: rng.random() * 2 * mean
        case "empirical":
            return lambda rng: rng.choice(values)
        case "lognormal" if cv:
            variance = math.log1p(cv * cv)
            mu, sigma = math.log(mean) - variance / 2, math.sqrt(variance)
            return lambda rng: math.exp(rng.gauss(mu, sigma))
        case "gamma" if cv:
            shape = 1 / (cv * cv)
            return lambda rng: rng.gammavariate(shape, mean / shape)
    return lambda rng: mean
