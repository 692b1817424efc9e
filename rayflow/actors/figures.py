"""What a router counts, for Prometheus. Most of it is read off the events that it records anyway, so a new figure needs
no new place in the code of a run.

Every run passes here several times, so what an event changes is looked up once, by all that it says together, and is
then a few additions.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import NamedTuple

from rayflow.events import Event
from rayflow.messages.stats import FIGURES, Sample


class Count:
    """A number that grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Spread:
    """A histogram. `bounds`: the upper ends of all buckets but the last."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class _Begun(NamedTuple):
    """What a call at a replica changes."""

    selections: Count
    waits: Spread


class _Called(NamedTuple):
    """What a call of a model that ended changes."""

    calls: Count
    prompt: Count
    completion: Count
    cost: Count


class _Answered(NamedTuple):
    """What the end of an agent's part changes."""

    parts: Count
    token_times: Spread


class Figures:
    """Of one actor, by the names in `FIGURES`."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, ...], Count] = {}
        self._spreads: dict[tuple[str, ...], Spread] = {}
        self._begun: dict[tuple[str, str], _Begun] = {}
        self._called: dict[tuple[str, str], _Called] = {}
        self._answered: dict[tuple[str, str], _Answered] = {}
        self._rules: dict[str, Callable[[Event], None]] = {
            "agent.started": self._part_began,
            "agent.finished": self._part_ended,
            "model.finished": self._call_ended,
            "run.finished": self._run_ended,
            **{kind: self._of_agent(name) for kind, name in _BY_AGENT.items()},
        }

    def count(self, name: str, *labels: str) -> Count:
        """That with these values for its labels."""
        return self._counts.setdefault((name, *labels), Count())

    def spread(self, name: str, *labels: str) -> Spread:
        return self._spreads.setdefault((name, *labels), Spread(FIGURES[name].buckets))

    def saw(self, event: Event) -> None:
        """An event of a run was recorded."""
        rule = self._rules.get(event.kind)
        if rule is not None:
            rule(event)

    def samples(self) -> Iterator[Sample]:
        """All but what never happened."""
        for (name, *labels), count in self._counts.items():
            if count.value:
                yield Sample(name, labels, count.value)
        for (name, *labels), spread in self._spreads.items():
            yield Sample(name, labels, spread.total, list(spread.counts))

    def _part_began(self, event: Event) -> None:
        agent, replica = key = event.agent, event.replica
        changed = self._begun.get(key)
        if changed is None:
            selections = self.count("rayflow_selections", agent, replica)
            changed = self._begun[key] = _Begun(selections, self.spread("rayflow_queue_wait_seconds", agent))
        changed.selections.value += 1
        changed.waits.observe((event.queue_ms or 0.0) / 1000)

    def _part_ended(self, event: Event) -> None:
        agent, status = key = event.agent, event.status
        changed = self._answered.get(key)
        if changed is None:
            times = self.spread("rayflow_time_per_output_token_seconds", agent)
            changed = self._answered[key] = _Answered(self.count("rayflow_parts", agent, status), times)
        changed.parts.value += 1
        if event.tokens_per_s:
            changed.token_times.observe(1 / event.tokens_per_s)
        if event.model:
            self._call_ended(event)

    def _call_ended(self, event: Event) -> None:
        """Models go by their entries in the configuration: what endpoints call them may be anything."""
        model, status = key = event.data.get("entry", event.model), event.status
        changed = self._called.get(key)
        if changed is None:
            changed = self._called[key] = _Called(
                self.count("rayflow_model_calls", model, status),
                self.count("rayflow_model_tokens", model, "prompt"),
                self.count("rayflow_model_tokens", model, "completion"),
                self.count("rayflow_model_cost_usd", model),
            )
        changed.calls.value += 1
        if event.prompt_tokens:
            changed.prompt.value += event.prompt_tokens
        if event.completion_tokens:
            changed.completion.value += event.completion_tokens
        if event.cost_usd:
            changed.cost.value += event.cost_usd

    def _run_ended(self, event: Event) -> None:
        if event.status == "error":
            self.count("rayflow_run_errors", event.error).value += 1

    def _of_agent(self, name: str) -> Callable[[Event], None]:
        def one_more(event: Event) -> None:
            self.count(name, event.agent).value += 1

        return one_more


_BY_AGENT = {
    "agent.retried": "rayflow_retries",
    "agent.fallback": "rayflow_fallbacks",
    "agent.hedged": "rayflow_hedges",
    "replica.ejected": "rayflow_ejections",
}
