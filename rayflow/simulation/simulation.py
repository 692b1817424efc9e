"""One run of a scenario: the runtime's own pools and scaler, driven by events on the virtual clock.

This is what routers and the coordinator do with the same objects (`actors.pools`, `actors.dispatch`,
`actors.coordinator`), without sockets: ask the pool for a replica, wait in its line, send the call, give the place
back with what was learnt, and look at the load every `scaling.interval_s`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from rayflow.policies.balancing import Outcome
from rayflow.policies.scaling import Scaler, can_scale
from rayflow.runtime.demand import Demands
from rayflow.runtime.line import Waiter
from rayflow.runtime.pool import Grant
from rayflow.runtime.roster import agent_address
from rayflow.simulation.arrivals import Arrival, rate_at
from rayflow.simulation.distributions import sampler
from rayflow.simulation.engine import Engine
from rayflow.simulation.faults import Condition, changes, condition
from rayflow.simulation.fleet import Fleet
from rayflow.simulation.load import Load
from rayflow.simulation.measures import Diversion, End, Measures, Order, Result, Sample, Shares, reversals
from rayflow.simulation.plan import Plan
from rayflow.simulation.request import Request
from rayflow.simulation.routers import NAME, Router, Watch
from rayflow.simulation.servers import Server, server

SAMPLES = 240
"""Samples over the time in which requests come."""
WALL_S = 1_700_000_000.0
"""Unix time at which every run begins, for schedules: a Tuesday evening, 22:13:20 UTC."""


class Simulation:
    """`recorded`: the requests of the processes trace and log. Runs once."""

    def __init__(self, plan: Plan, seed: int, recorded: Sequence[Arrival] = ()) -> None:
        scenario = plan.scenario
        self._plan = plan
        self._seed = seed
        self._engine = Engine()
        self._rng = random.Random(f"{seed}/replicas")
        self._requests = iter(Load(plan, seed, recorded))
        self._routers = [Router(plan, seed, n) for n in range(scenario.routers)]
        self._addresses: dict[int, str] = {}
        self._servers: dict[str, Server] = {}
        start_up = sampler(scenario.service.start_up_s)
        self._fleet = Fleet(self._engine, self._built, self._rotated, lambda: start_up(self._rng), plan.replicas.spares)
        self._scaler = Scaler(plan.replicas, plan.scaling)
        self._demands = Demands()
        self._measures = Measures(scenario)
        self._shares = [Shares(frozenset(fault.replicas)) for fault in scenario.faults if fault.replicas]
        self._calls: dict[str, Request] = {}
        self._watches = [Watch() for _ in scenario.traffic]
        self._orders: list[Order] = []
        self._samples: list[Sample] = []
        self._arrived = 0
        self._more = True
        self._replica_s = 0.0
        self._ready_s: list[tuple[float, int]] = []

    def run(self) -> Result:
        """Until the last request has ended."""
        plan, at = self._plan, self._engine.at
        for fault in plan.scenario.faults:
            for moment in (fault.from_s, fault.to_s):
                if moment:
                    at(moment, self._afflict)
        self._fleet.open(plan.replicas.min)
        if can_scale(plan.replicas, plan.scaling):
            at(plan.scaling.interval_s, self._scale)
        at(plan.duration_s / SAMPLES, self._sample, 1)
        at(plan.duration_s, self._closed)
        self._next()
        self._engine.run()
        return self._result()

    # --- requests ---

    def _next(self) -> None:
        request = next(self._requests, None)
        self._more = request is not None
        if request is not None:
            self._engine.at(request.arrived, self._arrive, request)

    def _arrive(self, call: Request) -> None:
        now = self._engine.now
        self._arrived += 1
        router = self._routers[call.router]
        self._calls[call.ticket] = call
        self._next()
        if not self._allowed(call):
            self._end(call, "failed")
            return
        self._watch(call)
        waiter = Waiter(call.ticket, now, call.deadline, call.level, call.tenant, call.tokens, call.key)
        answer = router.pool.acquire(waiter, now, router.rng)
        if isinstance(answer, Grant):
            self._send(answer)
        elif answer == "queued":
            self._alarm(router)
        else:
            self._end(call, "refused")

    def _send(self, grant: Grant) -> None:
        call = self._calls[grant.ticket]
        call.grant = grant
        call.started = self._engine.now
        call.server = self._servers[grant.replica]
        for shares in self._shares:
            shares.sent(call.server.index, call.started)
        if grant.waited_s and not call.probe and not self._allowed(call):  # others have failed meanwhile
            self._end(call, "failed")
            self._give_back(call, None)
            return
        call.server.begin(call)

    def _allowed(self, call: Request) -> bool:
        """Whether the breaker lets it through; if so, it may be a probe."""
        router = self._routers[call.router]
        verdict = "call" if router.breaker is None else router.breaker.allow(self._engine.now, router.rng)
        call.probe = verdict == "probe"
        return isinstance(verdict, str)

    def _ended(self, call: Request, ok: bool) -> None:
        """A replica answered, or failed."""
        now, server = self._engine.now, call.server
        assert server is not None
        breaker = self._routers[call.router].breaker
        if breaker is not None and ok:
            breaker.succeeded(now, call.probe)
        elif breaker is not None and server.condition.model:
            breaker.failed(now, call.probe, call.started)
        elif breaker is not None:
            breaker.released(call.probe)
        first_s = call.first_at - call.started if ok else None
        self._give_back(call, Outcome(ok, now - call.started, first_s, server.in_flight + 1))
        self._end(call, "answered" if ok else "failed")

    def _give_back(self, call: Request, outcome: Outcome | None) -> None:
        """`outcome`: None where the call was given up."""
        assert call.server is not None
        assert call.grant is not None
        if not call.server.in_flight:
            self._fleet.idle(call.server)
        router = self._routers[call.router]
        for grant in router.pool.release(call.grant, self._engine.now, router.rng, outcome):
            self._send(grant)

    def _end(self, call: Request, end: End) -> None:
        breaker = self._routers[call.router].breaker
        if breaker is not None and end in ("refused", "late"):
            breaker.released(call.probe)
        call.over = True
        del self._calls[call.ticket]
        self._measures.ended(call, end, self._engine.now, in_time=self._engine.now <= self._plan.duration_s)

    # --- time that is up ---

    def _watch(self, call: Request) -> None:
        """Requests of a kind have their deadlines in order of arrival, so one look at the first of them is planned."""
        watch = self._watches[call.kind]
        calls = watch.calls
        while calls and calls[0].over:
            calls.popleft()
        calls.append(call)
        if not watch.planned:
            watch.planned = True
            self._engine.at(call.deadline, self._look, watch)

    def _look(self, watch: Watch) -> None:
        now, calls = self._engine.now, watch.calls
        while calls and (calls[0].over or calls[0].deadline <= now):
            call = calls.popleft()
            if not call.over:
                self._give_up(call)
        watch.planned = bool(calls)
        if calls:
            self._engine.at(calls[0].deadline, self._look, watch)

    def _give_up(self, call: Request) -> None:
        self._end(call, "late")
        if call.server is None:
            self._routers[call.router].pool.abandon(call.ticket)
        else:
            call.server.stop(call)
            self._give_back(call, None)

    def _alarm(self, router: Router) -> None:
        expiry = router.line.next_expiry
        if expiry is not None and not router.alarm:
            router.alarm = True
            self._engine.at(expiry, self._expire, router)

    def _expire(self, router: Router) -> None:
        router.alarm = False
        for waiter in router.pool.expire(self._engine.now):
            if waiter.ticket in self._calls:
                self._end(self._calls[waiter.ticket], "late")
        self._alarm(router)

    # --- replicas ---

    def _built(self, index: int) -> Server:
        address = self._addresses.setdefault(index, agent_address(NAME, index))
        scenario = self._plan.scenario
        changing = changes(scenario.faults, index)
        built = server(scenario.service, index, self._engine, self._rng, self._ended, changing=changing)
        built.condition = self._condition(index)
        self._servers[address] = built
        return built

    def _rotated(self) -> None:
        now, rotation = self._engine.now, self._fleet.rotation
        self._ready_s.append((now, len(rotation)))
        addresses = [self._addresses[index] for index in rotation]
        for router in self._routers:
            self._send_all(router.pool.members(addresses, now, router.rng))

    def _send_all(self, grants: Iterable[Grant]) -> None:
        for grant in grants:
            self._send(grant)

    def _afflict(self) -> None:
        for each in self._fleet.all:
            each.change(self._condition(each.index))

    def _condition(self, index: int) -> Condition:
        return condition(self._plan.scenario.faults, index, self._engine.now)

    def _scale(self) -> None:
        now, fleet = self._engine.now, self._fleet
        for number, router in enumerate(self._routers):
            self._demands.take(f"router/{number}", [router.pool.demand(now)], now)
        ready = len(fleet.rotation)
        load = self._demands.load(NAME, ready, fleet.wanted - ready, now)
        assert load is not None, "the routers have just answered"
        target = self._scaler.decide(load, now, WALL_S + now)
        if target.replicas != fleet.wanted:
            self._orders.append(Order(now, fleet.wanted, target.replicas, target.reason))
            fleet.order(target.replicas)
        if self._more or self._calls:
            self._engine.at(now + self._plan.scaling.interval_s, self._scale)

    # --- what comes of it ---

    def _sample(self, number: int) -> None:
        pools = [router.pool for router in self._routers]
        p50_s, p99_s = self._measures.recent()
        self._samples.append(
            Sample(
                at_s=self._engine.now,
                replicas=len(self._fleet.rotation),
                processes=self._fleet.processes,
                in_flight=sum(pool.in_flight for pool in pools),
                waiting=sum(pool.waiting for pool in pools),
                arrived=self._arrived,
                p50_s=p50_s,
                p99_s=p99_s,
            )
        )
        self._arrived = 0
        if number < SAMPLES:
            self._engine.at(self._plan.duration_s * (number + 1) / SAMPLES, self._sample, number + 1)

    def _closed(self) -> None:
        self._replica_s = self._fleet.replica_seconds()

    def _result(self) -> Result:
        plan, measures = self._plan, self._measures
        orders = [order for order in self._orders if order.at_s >= plan.scenario.warm_up_s]
        figures = measures.figures()
        figures["replica_seconds"] = self._replica_s
        figures["mean_replicas"] = self._replica_s / plan.duration_s
        figures["peak_replicas"] = self._fleet.peak
        figures["orders"] = len(orders)
        figures["reversals"] = reversals(orders)
        figures |= self._step()
        figures["fairness"] = measures.fairness({tenant.name: tenant.weight for tenant in plan.tenants})
        return Result(
            plan.scenario.name,
            self._seed,
            figures,
            measures.tenants(),
            measures.classes(),
            self._diversions(),
            self._orders,
            self._samples,
            measures.curve(),
        )

    def _step(self) -> dict[str, float | None]:
        """How fast the pool followed the first rise of a step or a square wave: until more replicas were ordered, and
        until those in rotation could carry the new rate."""
        arrivals = self._plan.scenario.arrivals
        at = {"step": arrivals.at_s, "square": arrivals.period_s / 2}.get(arrivals.process)
        if at is None or arrivals.to_per_s <= arrivals.rate_per_s:
            return {"first_order_s": None, "capacity_s": None}
        ordered = next((o.at_s - at for o in self._orders if o.at_s >= at and o.after > o.before), None)
        needed = rate_at(arrivals)(at) * self._plan.work_s / self._plan.places
        before = max((n for n, (when, _) in enumerate(self._ready_s) if when <= at), default=0)
        capacity = next((max(0.0, when - at) for when, size in self._ready_s[before:] if size >= needed), None)
        return {"first_order_s": ordered, "capacity_s": capacity}

    def _diversions(self) -> list[Diversion]:
        faults = [fault for fault in self._plan.scenario.faults if fault.replicas]
        size = len(self._fleet.rotation)
        return [
            shares.diversion(fault.from_s, fault.to_s, size, self._plan.duration_s)
            for fault, shares in zip(faults, self._shares, strict=True)
        ]


def simulate(plan: Plan, seed: int, recorded: Sequence[Arrival] = ()) -> Result:
    """One run. The same plan, seed and record give the same result, byte for byte."""
    return Simulation(plan, seed, recorded).run()
