"""Whether and when a request is worked on: queues, priorities, fair shares, limits and budgets."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr

from rayflow.config.sections.base import Name, Own, Section

ServiceClass = Literal["interactive", "tool", "batch"]


class AdmissionConfig(Section):
    """Which calls may wait for a busy agent, and which are refused at once with 429 and Retry-After."""

    strategy: Literal["deadline", "bounded"] | Own = "deadline"
    """bounded: refuse when the line is full. deadline: also when a call would wait past `max_wait_s` or past its
    deadline, judged by the pace of the last calls. Or a policy of your own as FILE.py:NAME."""
    max_wait_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """Longest time that a call may expect to wait, and may wait, for a replica."""
    adaptive: bool = False
    """Find the number of calls a pool does well with by its latency, below replicas x max_in_flight."""
    min_limit: Annotated[int, Field(ge=1, le=10_000)] = 4
    """adaptive: the limit never falls below this."""
    tolerance: Annotated[float, Field(gt=1, le=10)] = 2.0
    """adaptive: latency up to this many times the best one is no sign of overload."""
    options: dict[str, Any] = {}
    """Options of a policy of your own."""


class PriorityConfig(Section):
    """Who goes first where calls wait: interactive before tool before batch, and within a class by these factors."""

    enabled: bool = True
    """Order waiting calls by priority; off: first come, first served."""
    ageing_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """A class whose oldest call has waited for so long is served beside the next higher one, so that none starves;
    within a class, so long a wait is worth one whole share."""
    reserve: Annotated[float, Field(ge=0, lt=1)] = 0.125
    """Part of an agent's places, rounded down, that batch calls leave free while there are others, so that these need
    not wait."""
    user_tiers: dict[str, float] = {"free": 0.0, "standard": 0.25, "premium": 0.5}
    """Share of a class by which a user's tier (`metadata.user_tier`, or the tenant's `tier`) raises a call."""
    urgency: dict[str, float] = {"low": -0.25, "normal": 0.0, "high": 0.25}
    """The same for `metadata.urgency`."""
    active_session: float = 0.1
    """The same for a session that had a turn within the last minute."""


class Limit(Section):
    """What one key may use. Requests are counted by rate (GCRA); all else is reserved before and settled after a
    run."""

    requests: Annotated[int, Field(ge=1)] | None = None
    """Requests in `window_s`; unset: no limit."""
    window_s: Annotated[float, Field(gt=0, le=86_400 * 31)] = 3600.0
    """Window of `requests`."""
    burst: Annotated[int, Field(ge=1)] | None = None
    """Requests that may come at once; unset: `requests`."""
    max_requests: Annotated[int, Field(ge=1)] | None = None
    """Budget: requests in a period."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Budget: tokens, prompt and completion together, in a period."""
    max_cost: Annotated[float, Field(gt=0)] | None = None
    """Budget: money in a period, in US dollars."""
    period: Literal["minute", "hour", "day", "month", "total"] = "day"
    """Period of the budgets, in UTC; total: for ever."""


class LimitsConfig(Section):
    """Limits and budgets, kept in one place for all processes. A request over one gets 429 and Retry-After."""

    workflow: Limit = Limit()
    """Of all requests together."""
    tenant: Limit = Limit()
    """Of each tenant that has none of its own."""
    user: Limit = Limit()
    """Of each user."""
    tokens_estimate: Annotated[int, Field(ge=1, le=10_000_000)] = 2000
    """Tokens reserved for an answer whose length nobody limited."""


class TenantConfig(Section):
    """A customer or team that shares this system with others."""

    name: Name
    """Unique name; part of events, never of metrics' labels."""
    api_keys: list[SecretStr] = []
    """Keys of this tenant's clients; write them as `"${NAME}"`."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Share of the tokens among the tenants that wait."""
    tier: str = ""
    """Entry of `priority.user_tiers` for all its requests."""
    limit: Limit | None = None
    """Its own limit instead of `limits.tenant`."""
