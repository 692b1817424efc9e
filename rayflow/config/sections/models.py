"""What agents talk to."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr

from rayflow.config.sections.base import Name, Own, Section


class Timeouts(Section):
    """Limits for one call of a model, in seconds. A request's own deadline shortens them, never extends."""

    connect_s: Annotated[float, Field(gt=0, le=600)] = 5.0
    """Until the connection stands."""
    first_token_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """From the request until the first piece of the answer."""
    between_tokens_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """Longest silence within a streamed answer."""
    total_s: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """The whole call."""


class Retries(Section):
    """Retries of one call of a model; none after the first piece of the answer."""

    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    """Calls in all, the first one included."""
    strategy: Literal["simple", "fixed", "exponential"] | Own = "exponential"
    """simple: again at once. fixed: after base_delay_s. exponential: the n-th time after base_delay_s x 2^n. Or a
    policy of your own as FILE.py:NAME."""
    jitter: Literal["full", "tenth", "none"] = "full"
    """What chance does to a wait. full: anything between 0 and the wait. tenth: up to 10 % longer. none: nothing."""
    base_delay_s: Annotated[float, Field(ge=0, le=60)] = 0.1
    """The wait of fixed, and what exponential doubles."""
    max_delay_s: Annotated[float, Field(ge=0, le=300)] = 1.0
    """Upper limit of one wait."""
    options: dict[str, Any] = {}
    """Options of a policy of your own."""


class ModelConfig(Section):
    """What an agent talks to: an OpenAI-compatible endpoint or the embedded offline model."""

    name: Name
    """Unique name that agents refer to."""
    provider: Literal["offline", "openai"] = "offline"
    """offline: the embedded extractive responder, no language model. openai: any OpenAI-compatible endpoint."""
    model: str = ""
    """Model id at the endpoint; empty means the entry's own name."""
    base_url: str | list[str] | None = None
    """Endpoint with its version path, for example http://127.0.0.1:8000/v1; of a list, replica n of an agent uses
    entry n modulo its length. Unset: OPENAI_BASE_URL or OpenAI's own."""
    api_key: SecretStr | None = None
    """Key; write it as `${NAME}`. Unset: OPENAI_API_KEY."""
    organization: str | None = None
    """OpenAI organisation id."""
    project: str | None = None
    """OpenAI project id."""
    lane: Literal["fast", "sdk"] = "fast"
    """openai only. fast: rayflow's own HTTP client. sdk: the openai package's, several times slower, for what only it
    can do."""
    headers: Annotated[dict[str, str], Field(json_schema_extra={"writeOnly": True})] = {}
    """Further HTTP headers of each call; their values are treated as secrets."""
    knowledge: str | None = None
    """offline only: a text or Markdown file whose sentences it may answer with; relative to the workflow file."""
    timeouts: Timeouts = Timeouts()
    """Limits of one call."""
    retries: Retries = Retries()
    """What to do when a call fails."""
    price_prompt: Annotated[float, Field(ge=0)] = 0.0
    """Price of a million prompt tokens, in US dollars; for budgets and cost."""
    price_cached_prompt: Annotated[float, Field(ge=0)] | None = None
    """Price of a million prompt tokens that the endpoint had in its cache; unset: as any others."""
    price_completion: Annotated[float, Field(ge=0)] = 0.0
    """Price of a million completion tokens."""
