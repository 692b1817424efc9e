"""Who watches over the runs and the machine: judges the alert rules and tells of them.

It lives in the event log actor. That one is always there, has no part in answering, and is not the supervisor: nobody
waits for it. Routers tell it sums every few seconds (`tally`), the machine it asks itself. Which alerts are raised is
kept in a small file, so that a new process goes on with them instead of telling everybody again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from rayflow.actors.machine import Machine
from rayflow.actors.outbox import EVENT_LOG, Outbox
from rayflow.callbacks import Callbacks
from rayflow.clock import Clock
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import WorkflowError
from rayflow.events import Event
from rayflow.messages import Alert, Alerts, GetAlerts, Outcomes, Payload
from rayflow.policies.alerting import Alerting, Change, title
from rayflow.runtime.ports import Actor, Handler

log = logging.getLogger(__name__)

LOOK_S = 5.0
MOST_TOLD = 16
"""Webhooks under way; alerts beyond them are in the log only."""


class Raised(msgspec.Struct, frozen=True):
    """A rule that is raised, and since when."""

    metric: str
    direction: str
    threshold: float
    window_s: float
    since_us: int

    @property
    def facts(self) -> dict[str, Any]:
        """As events and webhooks tell them."""
        return {name: value for name, value in msgspec.to_builtins(self).items() if name != "since_us"}


class Watch:
    """`book`: the file of what is raised. `machine`: makes who is asked how loaded the machine is."""

    def __init__(
        self,
        config: WorkflowConfig,
        book: Path,
        outbox: Outbox,
        callbacks: Callbacks,
        clock: Clock,
        machine: Callable[[], Machine] = Machine,
    ) -> None:
        alerts = config.alerts
        self._workflow = config.name
        self._webhook = alerts.webhook
        self._alerting = Alerting(alerts.all_rules if alerts.enabled else ())
        self._sample_s = config.monitoring.interval_s
        self._book = book
        self._outbox = outbox
        self._callbacks = callbacks
        self._clock = clock
        # Each measures from its own last look, so there is one for each rhythm.
        self._now, self._lately = machine(), machine()
        self._raised: dict[str, Raised] = {}
        """Rules that are raised, by title."""
        self._telling: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {Outcomes: self._heard, GetAlerts: self._alerts}

    def start(self) -> None:
        titles = {title(each.rule) for each in self._alerting.standings}
        self._raised = self._read()
        for key in self._raised.keys() - titles:
            log.warning("alert is over: %s (the rule is gone)", key)
            self._tell_all("alert.cleared", self._raised.pop(key).facts)
            self._write()
        self._alerting.resume(self._clock.now(), self._raised)
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        tasks = [task for task in (self._task, *self._telling) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._outbox.close()

    def look(self) -> None:
        """Judge all rules as things are now, and tell what has changed."""
        now = self._clock.now()
        for metric, value in self._now.load().items():
            self._alerting.sampled(now, metric, value)
        for change in self._alerting.judge(now):
            self._tell(change)

    def sample(self) -> None:
        """Put the load of the machine into the log."""
        if load := self._lately.load():
            self._outbox.emit(
                self._event("system.sampled", {metric: round(share, 4) for metric, share in load.items()})
            )

    async def _work(self) -> None:
        self._lately.load()
        sampled = self._clock.now()
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()
            if self._clock.now() - sampled >= self._sample_s:
                sampled = self._clock.now()
                self.sample()

    def _heard(self, outcomes: Outcomes) -> None:
        self._alerting.ended(self._clock.now(), outcomes.runs, outcomes.errors, outcomes.took_ms)

    def _alerts(self, _: GetAlerts) -> Alerts:
        return Alerts(
            [
                Alert(
                    each.rule.metric,
                    each.rule.direction,
                    each.rule.threshold,
                    each.rule.window_s,
                    each.firing,
                    each.value,
                    raised.since_us if (raised := self._raised.get(title(each.rule))) else 0,
                )
                for each in self._alerting.standings
            ]
        )

    def _tell(self, change: Change) -> None:
        rule, key = change.rule, title(change.rule)
        raised = Raised(rule.metric, rule.direction, rule.threshold, rule.window_s, self._clock.wall_us())
        if change.raised:
            self._raised[key] = raised
            log.error("alert: %s (it is %.4g)", key, change.value)
        else:
            self._raised.pop(key, None)
            log.warning("alert is over: %s (it is %.4g)", key, change.value)
        self._write()
        self._tell_all("alert.raised" if change.raised else "alert.cleared", raised.facts, change.value)

    def _tell_all(self, kind: str, facts: dict[str, Any], value: float | None = None) -> None:
        event = self._event(kind, facts, value)
        self._outbox.emit(event)
        if self._webhook is not None and len(self._telling) < MOST_TOLD:
            telling = asyncio.get_running_loop().create_task(self._call(self._webhook, event))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)

    def _event(self, kind: str, facts: dict[str, Any], score: float | None = None) -> Event:
        return Event(kind, self._clock.wall_us(), EVENT_LOG, workflow=self._workflow, score=score, data=facts)

    async def _call(self, url: str, event: Event) -> None:
        told = {
            "event": event.kind,
            "workflow": event.workflow,
            "at": datetime.fromtimestamp(event.ts_us / 1e6, UTC).isoformat(),
            "value": event.score,
            **event.data,
        }
        try:
            await self._callbacks.deliver(url, msgspec.json.encode(told))
        except WorkflowError as error:
            log.error("the webhook of alerts was not told of %s: %s", event.kind, error.message)

    def _read(self) -> dict[str, Raised]:
        try:
            return msgspec.json.decode(self._book.read_bytes(), type=dict[str, Raised])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("%s cannot be read: alerts that were raised before are raised again: %s", self._book, error)
            return {}

    def _write(self) -> None:
        draft = self._book.with_suffix(".tmp")
        try:
            draft.write_bytes(msgspec.json.encode(self._raised))
            draft.replace(self._book)
        except OSError as error:
            log.warning("%s cannot be written: after a restart, alerts are raised again: %s", self._book, error)


class WatchedLog:
    """The event log actor, and who watches from within its process."""

    def __init__(self, events: Actor, watch: Watch) -> None:
        self._events = events
        self._watch = watch

    @property
    def handlers(self) -> Mapping[type[Payload], Handler]:
        return {**self._events.handlers, **self._watch.handlers}

    async def start(self) -> None:
        await self._events.start()
        self._watch.start()

    async def drain(self, budget_s: float) -> list[str]:
        return await self._events.drain(budget_s)

    async def stop(self) -> None:
        await self._watch.stop()
        await self._events.stop()
