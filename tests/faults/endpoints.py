"""A faulty upstream, and a faulty network on the way to it: failures are told as what they are, and end with their
cause."""

from __future__ import annotations

import asyncio
import time

from faults.fault import Fault, during
from faults.operations import Operation, Outcome
from faults.proxy import Damage
from faults.scene import Injection, Scene
from faults.upstream import Trouble

LASTS_S = 3.0
RECOVERY_S = 2.0
SHARES = (0.3, 1.0)
RETRY_SHARE = 0.2
EXTRA_CALLS_PER_S = 10.0
BUDGET_S = 10.0


class Endpoint(Fault):
    """`codes`: errors that name the fault. It lasts some seconds, and is over within two more."""

    times = 4
    stream_error_s = 0.0
    allows_partial = True

    def __init__(self, name: str, promise: str, codes: set[str]) -> None:
        self.name = name
        self.promise = promise
        self._codes = codes

    def excuses(self, operation: Operation, scene: Scene) -> bool:
        told = operation.outcome in (Outcome.FAIL, Outcome.STREAM_ERROR)
        # A fan-out of which all agents failed says so with a code of its own.
        codes = self._codes | {"execution-failed"} if len(operation.agents) > 1 else self._codes
        return told and operation.code in codes and during(operation, scene.injections, RECOVERY_S)

    async def last(self, injection: Injection) -> None:
        await asyncio.sleep(LASTS_S)
        injection.until_s = time.monotonic()


class UpstreamFault(Endpoint):
    """The endpoint itself fails, for a share of its calls and then for all of them."""

    def __init__(self, trouble: Trouble, promise: str, codes: set[str], *, budgeted: bool = False) -> None:
        super().__init__(f"upstream-{trouble}", promise, codes)
        self._trouble = trouble
        self._budgeted = budgeted

    async def inject(self, scene: Scene) -> None:
        upstream = scene.system.upstream
        for number in range(scene.times):
            await scene.pause(1.0, 2.0)
            share = SHARES[number % len(SHARES)]
            injection = scene.injected(f"{share:.0%} of calls", heals=False)
            asked, called = len(scene.load.operations), upstream.calls.total()
            upstream.share, upstream.trouble = share, self._trouble
            await self.last(injection)
            upstream.trouble = None
            operations = scene.load.operations
            asked_for = sum(len(o.agents) for o in operations[asked:])
            # The retry budget is one of the last ten seconds.
            since = injection.until_s - BUDGET_S
            recent = sum(len(o.agents) for o in operations if o.sent_s >= since)
            calls = upstream.calls.total() - called
            scene.say(f"{number + 1}/{scene.times} {self.name} {injection.victim}: {calls} calls for {asked_for}")
            if self._budgeted and calls > asked_for + RETRY_SHARE * recent + EXTRA_CALLS_PER_S * BUDGET_S:
                scene.problems.append(f"{calls} calls upstream for {asked_for} asked while {share:.0%} failed")
            await asyncio.sleep(RECOVERY_S)


class ProxyFault(Endpoint):
    """The connection to the endpoint is damaged at random places."""

    through_proxy = True

    def __init__(self, damage: Damage, promise: str, codes: set[str]) -> None:
        super().__init__(f"proxy-{damage}", promise, codes)
        self._damage = damage

    async def inject(self, scene: Scene) -> None:
        proxy = scene.system.proxy
        assert proxy is not None
        for number in range(scene.times):
            await scene.pause(1.0, 2.0)
            injection = scene.injected("connections", heals=False)
            proxy.damage = self._damage
            await self.last(injection)
            proxy.damage = None
            scene.say(f"{number + 1}/{scene.times} {self.name}: {proxy.injected} damages so far")
            await asyncio.sleep(RECOVERY_S)
        scene.notes["damages"] = proxy.injected


_OPEN = "circuit-open"
"""What a request is told while the endpoint is given a pause."""
_BROKEN = {"model-failed", "model-incomplete", _OPEN}
ENDPOINTS: tuple[Fault, ...] = (
    UpstreamFault(
        Trouble.RATE_LIMITED,
        "429: told as such, without a storm of retries",
        {"model-rate-limited"},
        budgeted=True,
    ),
    UpstreamFault(
        Trouble.BROKEN, "500: told as such, without a storm of retries", {"model-failed", _OPEN}, budgeted=True
    ),
    UpstreamFault(Trouble.STALL, "a silent endpoint is given up in time", {"model-timeout", _OPEN}),
    UpstreamFault(Trouble.TRUNCATED, "a stream without finish reason is never complete", _BROKEN),
    UpstreamFault(Trouble.RESET, "a torn connection is never a complete answer", _BROKEN),
    ProxyFault(Damage.DELAY, "a slow network is no failure", set()),
    ProxyFault(Damage.DROP, "a connection that went silent is given up in time", {"model-timeout", *_BROKEN}),
    ProxyFault(Damage.RESET, "a reset connection is never a complete answer", _BROKEN),
    ProxyFault(Damage.HALF_CLOSE, "a half-closed connection is never a complete answer", _BROKEN),
    ProxyFault(Damage.CORRUPT, "a damaged answer is never a complete answer", {"model-rejected", *_BROKEN}),
)
