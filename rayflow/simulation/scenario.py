"""A scenario file as types: a load, a model of the replicas, and the policies to try on them.

The sections of policies are those of the workflow file, so a scenario can also name a workflow file and take them from
there: what is simulated is then what would be served.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rayflow.config.schema import (
    AdmissionConfig,
    BalancingConfig,
    BreakerConfig,
    Mismatch,
    Name,
    PriorityConfig,
    ReferenceProblems,
    Replicas,
    ScalingConfig,
    Section,
    ServiceClass,
    TenantConfig,
)
from rayflow.simulation.distributions import Amount

Seconds = Annotated[float, Field(ge=0, le=86_400 * 31)]
Rate = Annotated[float, Field(ge=0, le=1_000_000)]


class Arrivals(Section):
    """When requests come."""

    process: Literal["poisson", "regular", "step", "square", "diurnal", "trace", "log"] = "poisson"
    """poisson: at random, at `rate_per_s`. regular: at equal distances. step: at random, from `at_s` on at
    `to_per_s`. square: at random, at `rate_per_s` and `to_per_s` in turn, each for half of `period_s`. diurnal: at
    random, from `rate_per_s` up to `to_per_s` and back once in `period_s`, as a sine. trace: as recorded in `file`.
    log: the runs of the event log in the folder `file`."""
    rate_per_s: Rate = 10.0
    """Requests per second."""
    to_per_s: Rate = 0.0
    """The other rate of step, square and diurnal."""
    at_s: Seconds = 60.0
    """When the step is."""
    period_s: Annotated[float, Field(gt=0, le=86_400 * 31)] = 600.0
    """Length of a period of square and diurnal."""
    file: str | None = None
    """trace: Parquet or JSONL with `arrival_s`, `input_tokens`, `output_tokens`, relative to the scenario file."""
    speed: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """trace, log: replay so many times faster."""
    spread_s: Annotated[float, Field(ge=0, le=3600)] = 0.0
    """trace, log: requests of the same moment are spread over so many seconds, for traces with coarse clocks."""

    @model_validator(mode="after")
    def _complete(self) -> Arrivals:
        if self.process in ("trace", "log") and self.file is None:
            raise ReferenceProblems([Mismatch("file", f"a path (process is {self.process})", "nothing")])
        if self.process in ("step", "square", "diurnal") and not self.to_per_s:
            raise ReferenceProblems([Mismatch("to_per_s", f"a rate above 0 (process is {self.process})", "0")])
        if self.process in ("poisson", "regular") and not self.rate_per_s:
            raise ReferenceProblems([Mismatch("rate_per_s", f"a rate above 0 (process is {self.process})", "0")])
        return self


class Traffic(Section):
    """One kind of request."""

    share: Annotated[float, Field(gt=0, le=1_000_000)] = 1.0
    """Part of all requests, in relation to the shares of the other kinds."""
    service_class: ServiceClass = "interactive"
    """Its priority class."""
    user_tier: str = ""
    """An entry of `priority.user_tiers`."""
    tenant: str = ""
    """An entry of `tenants`."""
    sessions: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """Conversations that its requests belong to, each as often; 0: each request has one of its own."""
    input_tokens: Amount = 0.0
    """Of a prompt; a trace has its own."""
    output_tokens: Amount = 0.0
    """Of an answer; a trace has its own."""
    deadline_s: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    """Time after which nobody waits for the answer any more: the request ends, wherever it is."""


class Service(Section):
    """What one replica does with one call: `first_token_s` + input tokens x `per_input_token_s`, then the first token
    is out, then output tokens x `per_output_token_s`."""

    model: Literal["io", "shared", "slots"] = "io"
    """io: calls wait for a far-away model and do not feel each other. shared: they share `cores` equally. slots: so
    many are worked on, in order of arrival; the others wait in the replica."""
    cores: Annotated[float, Field(gt=0, le=1024)] = 1.0
    """shared: how many calls run at full speed."""
    slots: Annotated[int, Field(ge=1, le=10_000)] = 1
    """slots: how many calls are worked on at once."""
    first_token_s: Amount = 0.2
    """Time to the first token of an empty prompt."""
    per_input_token_s: Amount = 0.0
    """Time for a token of the prompt; drawn per call."""
    per_output_token_s: Amount = 0.0
    """Time for a token of the answer; drawn per call."""
    start_up_s: Amount = 2.0
    """From the order of a replica until it serves."""


class Fault(Section):
    """Something that is wrong for a while."""

    replicas: Annotated[list[Annotated[int, Field(ge=0, le=100_000)]], Field(max_length=100_000)] = []
    """Numbers of the replicas concerned, from 0; empty: all."""
    from_s: Seconds = 0.0
    """Begin."""
    to_s: Seconds | None = None
    """End; unset: for ever."""
    slow: Annotated[float, Field(gt=0, le=10_000)] = 1.0
    """Calls take so many times longer."""
    fail: Annotated[float, Field(ge=0, le=1)] = 0.0
    """This share of the calls fails ..."""
    fail_after_s: Seconds = 0.02
    """... after so long."""
    cause: Literal["model", "replica"] = "model"
    """What fails: a model's failure counts for the breaker and against the replica that called it, the death of a
    replica against that alone."""

    @model_validator(mode="after")
    def _order(self) -> Fault:
        if self.to_s is not None and self.to_s <= self.from_s:
            raise ReferenceProblems([Mismatch("to_s", f"more than from_s ({self.from_s})", str(self.to_s))])
        return self


class Objective(Section):
    """What a request should get. One that fails, is refused or misses its deadline has missed it, too."""

    response_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """The whole answer within this time."""
    first_token_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """The first token within this time."""


class ManyReplicas(Replicas):
    """As in a workflow file, but as many as one likes."""

    min: Annotated[int, Field(ge=0, le=100_000)] = 1
    """Replicas that always run."""
    max: Annotated[int, Field(ge=1, le=100_000)] = 4
    """Upper limit for scaling."""
    spares: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Warm replicas beside these."""


class Scenario(Section):
    """One scenario file."""

    name: Name
    """Shown with the results."""
    description: str = ""
    """What it is meant to show."""
    workflow: str | None = None
    """Workflow file, relative to this one, that `replicas` and the policies are taken from, where not given here."""
    agent: Name | None = None
    """Which of its agents; unset: the first."""
    seed: Annotated[int, Field(ge=0, le=(1 << 63) - 1)] = 1
    """Everything random follows from it."""
    duration_s: Annotated[float, Field(gt=0, le=86_400 * 31)] | None = None
    """Requests come for so long, and are then worked off; unset: 600 s, or the whole of a trace."""
    warm_up_s: Seconds = 0.0
    """Requests that come before do not count."""
    routers: Annotated[int, Field(ge=1, le=64)] = 1
    """Routers, each with its own view of the pool."""
    arrivals: Arrivals = Arrivals()
    """The load."""
    traffic: Annotated[list[Traffic], Field(min_length=1, max_length=1000)] = [Traffic()]
    """Kinds of requests."""
    service: Service = Service()
    """What a replica does with a call."""
    faults: Annotated[list[Fault], Field(max_length=1000)] = []
    """What is wrong, and when."""
    objective: Objective = Objective()
    """What a request should get."""
    max_queue: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Calls that may wait in one router; unset: the workflow's `processing.max_queue`."""
    replicas: ManyReplicas | None = None
    """As an agent's; the run begins with `min`."""
    balancing: BalancingConfig | None = None
    """As in a workflow file."""
    scaling: ScalingConfig | None = None
    """As in a workflow file."""
    admission: AdmissionConfig | None = None
    """As in a workflow file."""
    priority: PriorityConfig | None = None
    """As in a workflow file."""
    tenants: list[TenantConfig] | None = None
    """As in a workflow file; their keys and limits do not matter here."""
    breaker: BreakerConfig | None = None
    """As `resilience.breaker`; it has work where a fault's cause is the model."""

    @model_validator(mode="after")
    def _references(self) -> Scenario:
        if self.tenants is None:
            return self
        known = {tenant.name for tenant in self.tenants}
        problems = [
            Mismatch(f"traffic.{i}.tenant", f"the name of a tenant ({', '.join(sorted(known))})", repr(kind.tenant))
            for i, kind in enumerate(self.traffic)
            if kind.tenant and kind.tenant not in known
        ]
        if problems:
            raise ReferenceProblems(problems)
        return self
