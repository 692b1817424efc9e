"""A router's side of limits and budgets: reserve before a run, settle after it, however it ended.

Where nothing is limited for a tenant, nothing is asked and nothing is kept. What a run will use is estimated: four
characters are a token, and an answer is as long as it may be. Before routing nobody knows which agents will answer, so
the dearest of them is reserved for; when they are known, whatever that was short of is added (`routed`).

What was used, as far as anybody knows, is settled: the usage of the parts that were answered, and for a part that was
cut short what its replica says it had used by then (`Spent`). If nobody says, the estimate stands. A run of which no
part was begun is void.

While the accounts actor is being replaced, requests wait `PATIENCE_S` for it where there are budgets, and are refused
with 503 then: a budget that nobody guards is none. Where only rates are limited, each router counts for itself
meanwhile, for its part of all requests.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field

from rayflow.actors.accounts import ADDRESS
from rayflow.actors.persistence import PATIENCE_S, died, persist, untouched
from rayflow.actors.spending import prompt_tokens, tokens_of
from rayflow.actors.work import Work
from rayflow.chat import Message, Usage
from rayflow.clock import Clock
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import DeadlineExceeded, Overloaded, Unavailable, WorkflowError
from rayflow.messages import Reserve, RunRequest, Settle, Spent
from rayflow.policies.prices import entry_of
from rayflow.runtime.limits import Limits
from rayflow.runtime.part import PartState
from rayflow.runtime.ports import Fabric
from rayflow.runtime.rates import Rates

log = logging.getLogger(__name__)

RATES_S = 1.0
"""How long the accounts may take to answer where they can be done without."""
SPENT_S = 1.0
"""How long a replica may take to say what a call that was cut short had used."""


@dataclass(frozen=True, slots=True)
class Estimate:
    tokens: int = 0
    cost: float = 0.0

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(self.tokens + other.tokens, self.cost + other.cost)

    def over(self, other: Estimate) -> Estimate:
        """The larger of each."""
        return Estimate(max(self.tokens, other.tokens), max(self.cost, other.cost))


@dataclass(slots=True)
class Held:
    """What is reserved for a run, and what its replicas said of calls that were cut short."""

    estimate: Estimate
    spent: dict[str, list[Spent]] = field(default_factory=dict)
    """By agent."""
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Admission:
    def __init__(self, config: WorkflowConfig, fabric: Fabric, clock: Clock) -> None:
        self._config = config
        self._fabric = fabric
        self._clock = clock
        self._limits = Limits(config)
        self._own_rates = Rates(self._limits, keepers=config.processing.routers)
        self._entries = {model.name: entry_of(model) for model in config.models}
        self._own = {agent.name: entry_of(config.model(agent.model)) for agent in config.agents}
        self._held: dict[str, Held] = {}
        self._settling: set[asyncio.Task[None]] = set()

    def tokens(self, request: RunRequest) -> int:
        """What a run is expected to use: what its calls weigh among those of other tenants."""
        return self._dearest(request).tokens if self._config.tenants else 1

    def admit(self, work: Work) -> Awaitable[None] | None:
        """Before a run touches anything: raises `RateLimited`, `BudgetExceeded`, or `Unavailable` where nobody can say.
        None where nothing is limited."""
        request = work.request
        if work.inherited:
            return None  # it was admitted before; what was reserved for it then counts as used
        if self._limits.budgets(request.tenant, request.user_id):
            return self._reserve(request, self._dearest(request))
        if self._limits.rates(request.tenant, request.user_id):
            return self._count(request)
        return None

    def routed(self, work: Work) -> Awaitable[None] | None:
        """The agents, and what they will be told, are known: raises `BudgetExceeded` where that is too much."""
        held = self._held.get(work.request.run_id)
        if held is None:
            return None
        told = _prompt_tokens(work.request, work.context)
        need = sum((self._estimate(work.request, part.agent, told) for part in work.run.parts), Estimate())
        more = held.estimate.over(need)
        return None if more == held.estimate else self._reserve(work.request, more)

    def ended(self, work: Work) -> None:
        """The run is over, however it ended: settle, in the background."""
        if held := self._held.get(work.request.run_id):
            settling = asyncio.get_running_loop().create_task(self._settle(work, held))
            self._settling.add(settling)
            settling.add_done_callback(self._settling.discard)

    def holds(self, run_id: str) -> bool:
        """Whether something is reserved for this run, so that its replicas should say what was used."""
        return run_id in self._held

    def spent(self, message: Spent) -> None:
        """A replica says what a call that was cut short had used."""
        if held := self._held.get(message.run_id):
            held.spent.setdefault(message.agent, []).append(message)
            held.news.set()

    async def settled(self) -> None:
        """Wait until all runs that are over are settled."""
        if self._settling:
            await asyncio.wait(self._settling)

    # --- reserving ---

    async def _reserve(self, request: RunRequest, need: Estimate) -> None:
        # Held before it is asked for: whatever comes of the question, it is settled in the end.
        held = self._held.get(request.run_id)
        if held is None:
            self._held[request.run_id] = Held(need)
        try:
            await self._ask_accounts(_reserve(request, need))
        except Overloaded:
            if held is None:
                del self._held[request.run_id]
            raise
        except WorkflowError as error:
            if not _away(error):
                raise
            raise Unavailable(
                "the accounts of this workflow cannot be reached, and without them no budget is spent: try again",
                retry_after_s=1,
            ) from error
        if held is not None:
            held.estimate = need

    async def _count(self, request: RunRequest) -> None:
        try:
            await self._fabric.ask(ADDRESS, _reserve(request, Estimate()), RATES_S)
        except WorkflowError as error:
            if not _away(error):
                raise
            now = self._clock.now()
            self._own_rates.check(request.run_id, request.tenant, request.user_id, now)
            self._own_rates.take(request.run_id, request.tenant, request.user_id, now)

    async def _ask_accounts(self, message: Reserve | Settle) -> None:
        await persist(lambda: self._fabric.ask(ADDRESS, message, PATIENCE_S), self._clock, repeatable=True)

    # --- settling ---

    async def _settle(self, work: Work, held: Held) -> None:
        run_id = work.request.run_id
        begun = [part for part in work.run.parts if part.replica]
        try:
            await self._hear_of({part.agent for part in begun if part.reply is None}, held)
            used = self._used(work, begun, held)
            await self._ask_accounts(Settle(run_id, used.tokens, used.cost, void=not begun))
        except WorkflowError as error:
            log.warning("run %s could not be settled; what was reserved for it will count as used: %s", run_id, error)
        finally:
            del self._held[run_id]

    async def _hear_of(self, cut_short: set[str], held: Held) -> None:
        """Wait for the replicas that were stopped in the middle."""
        try:
            async with asyncio.timeout(SPENT_S):
                while cut_short - held.spent.keys():
                    held.news.clear()
                    await held.news.wait()
        except TimeoutError:
            return

    def _used(self, work: Work, begun: Sequence[PartState], held: Held) -> Estimate:
        """By all calls, each at the price of the model that was called. Of a part of which nobody says anything, what
        was expected."""
        calls = [
            (self._entries.get(spent.model, self._own[agent]), spent.usage)
            for agent, said in held.spent.items()
            for spent in said
        ]
        calls += [(part.called or self._own[part.agent], part.reply.usage) for part in begun if part.reply]
        told = _prompt_tokens(work.request, work.context)
        unknown = [part.agent for part in begun if not part.reply and part.agent not in held.spent]
        return sum(
            (self._estimate(work.request, agent, told) for agent in unknown),
            sum((Estimate(usage.total_tokens, entry.cost(usage)) for entry, usage in calls), Estimate()),
        )

    # --- estimating ---

    def _dearest(self, request: RunRequest) -> Estimate:
        """Before routing: whoever may answer."""
        told = _prompt_tokens(request, request.messages)
        agents: Iterable[str] = (request.agent,) if request.agent in self._own else self._own
        need = Estimate()
        for agent in agents:
            need = need.over(self._estimate(request, agent, told))
        return need

    def _estimate(self, request: RunRequest, agent: str, told: int) -> Estimate:
        params = request.params
        limits = (params.max_completion_tokens, params.max_tokens, self._config.agent(agent).max_tokens)
        answer = next((limit for limit in limits if limit is not None), self._config.limits.tokens_estimate)
        return Estimate(told + answer, self._own[agent].cost(Usage(told, answer)))


def _reserve(request: RunRequest, need: Estimate) -> Reserve:
    return Reserve(request.run_id, request.tenant, request.user_id, need.tokens, need.cost)


def _prompt_tokens(request: RunRequest, messages: Iterable[Message]) -> int:
    return prompt_tokens(messages) + tokens_of(len(request.instructions) + len(request.system_prompt))


def _away(error: WorkflowError) -> bool:
    """Whether this says that nobody keeps the accounts right now."""
    return untouched(error) or died(error) or isinstance(error, DeadlineExceeded)
