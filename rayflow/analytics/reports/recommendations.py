"""What to change, and why: rules over the figures of a report.

A rule is a function of the facts and yields what it has to say. It speaks only of what enough runs show, names the
numbers it goes by, the SQL that shows them, and the setting to change. It never changes anything itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from rayflow.analytics.kpis import Period, Row

ENOUGH = 20
"""Fewer runs, calls or opinions than this say nothing."""
SLOW_MS = 5000.0
QUEUED_MS = 1000.0
MANY_ERRORS = 0.05
UNSURE = 0.5
UNHAPPY = 0.6
FULL = 0.8
SLOWER = 1.25
"""So many times the response time of the period before."""
RESTLESS = 10
"""So often a pool grew and shrank again."""

SETTINGS: dict[str, tuple[str, ...]] = {
    "model-timeout": ("models.*.timeouts", "agents.*.fallback_models"),
    "model-rate-limited": ("models.*.retries", "agents.*.fallback_models"),
    "model-rejected": ("models.*.model", "models.*.api_key"),
    "deadline-exceeded": ("processing.request_timeout_s", "agents.*.replicas.max"),
    "overloaded": ("agents.*.replicas.max", "processing.max_queue"),
    "rate-limited": ("limits", "tenants.*.limit"),
    "budget-exceeded": ("limits", "tenants.*.limit"),
    "content-rejected": ("processing.min_length", "processing.max_length"),
    "storage-full": ("storage.state",),
}
"""What helps, by error."""
OTHER_ERRORS = ("agents.*.fallback_models", "resilience.degraded_message")


class Recommendation(msgspec.Struct, frozen=True):
    """`evidence`: the numbers, in words. `sql`: shows them; for `rayflow query`. `settings`: keys of the workflow file
    that help, the first one most likely; `*` is any entry."""

    title: str
    evidence: str
    sql: str
    settings: list[str]


@dataclass(frozen=True)
class Facts:
    """`figures` and `before`: by name, of the period and of the one before it. `tables`: rows by name of table."""

    period: Period
    figures: Mapping[str, float | None]
    before: Mapping[str, float | None]
    tables: Mapping[str, Sequence[Row]]
    unreadable: Mapping[str, str]

    def figure(self, name: str) -> float:
        """0 where there is nothing to measure."""
        return self.figures.get(name) or 0.0

    def rows(self, table: str) -> Sequence[Row]:
        return self.tables.get(table, ())

    def sql(self, columns: str, where: str, rest: str = "") -> str:
        """A look at the events of the period."""
        since, until = self.period.since.isoformat(), self.period.until.isoformat()
        return f"SELECT {columns} FROM events WHERE {where} AND ts >= '{since}' AND ts < '{until}' {rest}".strip()


def recommend(facts: Facts) -> list[Recommendation]:
    """What all rules have to say, the most urgent first."""
    return [said for rule in RULES for said in rule(facts)]


def damaged_files(facts: Facts) -> Iterator[Recommendation]:
    if facts.unreadable:
        names = ", ".join(sorted(facts.unreadable)[:3])
        yield Recommendation(
            "Files of the log are damaged: every figure here lacks their events",
            f"{len(facts.unreadable)} of them are left out: {names}",
            "SELECT date, count(*) FROM events GROUP BY date ORDER BY date",
            ["storage.events"],
        )


def crashes(facts: Facts) -> Iterator[Recommendation]:
    for row in facts.rows("supervision"):
        if row["parked"] or row["deaths"] >= 3:
            parked = " and stayed down for a while" if row["parked"] else ""
            yield Recommendation(
                f"{row['actor']} keeps dying",
                f"it died {_times(row['deaths'])}{parked}; the last time: {row['last_death'] or 'nothing was said'}",
                facts.sql("ts, kind, error_message", f"source = {_quoted(row['actor'])} AND kind LIKE 'actor.%'"),
                ["agents.*.replicas.max", "storage.state"],
            )


def failing_runs(facts: Facts) -> Iterator[Recommendation]:
    rate, runs = facts.figure("error_rate"), facts.figure("runs")
    if runs >= ENOUGH and rate > MANY_ERRORS and facts.rows("errors"):
        worst = facts.rows("errors")[0]
        slug = worst["error"] or "internal-error"
        yield Recommendation(
            f"Many runs fail, most of them with {slug}",
            f"{_share(rate)} of {runs:.0f} runs failed, {worst['runs']} with {slug}: {worst['message']}",
            facts.sql(
                "error, count(*) AS runs",
                "kind = 'run.finished' AND status = 'error'",
                "GROUP BY error ORDER BY runs DESC",
            ),
            list(SETTINGS.get(slug, OTHER_ERRORS)),
        )


def waiting_calls(facts: Facts) -> Iterator[Recommendation]:
    for row in facts.rows("agents"):
        if row["calls"] >= ENOUGH and (row["queue_p95"] or 0) > QUEUED_MS:
            yield Recommendation(
                f"Calls of {row['agent']} wait for a replica",
                f"5 of 100 of its {row['calls']} calls waited longer than {row['queue_p95']:.0f} ms",
                facts.sql(
                    "quantile_cont(queue_ms, 0.95)", f"kind = 'agent.finished' AND agent = {_quoted(row['agent'])}"
                ),
                [f"agents.{row['agent']}.replicas.max", f"agents.{row['agent']}.replicas.max_in_flight"],
            )


def slow_agents(facts: Facts) -> Iterator[Recommendation]:
    for row in facts.rows("agents"):
        if row["calls"] >= ENOUGH and (row["response_time"] or 0) > SLOW_MS:
            yield Recommendation(
                f"{row['agent']} takes long",
                f"its answers took {row['response_time']:.0f} ms on average over {row['calls']} calls",
                facts.sql(
                    "model, avg(duration_ms), avg(completion_tokens)",
                    f"kind = 'agent.finished' AND status = 'ok' AND agent = {_quoted(row['agent'])}",
                    "GROUP BY model",
                ),
                [f"agents.{row['agent']}.model", f"agents.{row['agent']}.max_tokens", "scaling.slow_response_ms"],
            )


def slower_than_before(facts: Facts) -> Iterator[Recommendation]:
    now, before = facts.figure("response_time"), facts.before.get("response_time") or 0.0
    enough = min(facts.figure("runs"), facts.before.get("runs") or 0.0) >= ENOUGH
    if enough and before and now > before * SLOWER:
        yield Recommendation(
            "Answers take longer than in the period before",
            f"{now:.0f} ms on average, after {before:.0f} ms",
            facts.sql(
                "agent, model, avg(duration_ms), avg(queue_ms)",
                "kind = 'agent.finished' AND status = 'ok'",
                "GROUP BY agent, model ORDER BY 3 DESC",
            ),
            ["agents.*.replicas.max", "agents.*.model"],
        )


def full_memory(facts: Facts) -> Iterator[Recommendation]:
    peak = facts.figure("memory_peak")
    if peak > FULL:
        yield Recommendation(
            "The machine's memory is nearly full",
            f"{_share(peak)} of it were in use at the peak",
            facts.sql("ts, data ->> '$.memory_usage' AS memory_usage", "kind = 'system.sampled'", "ORDER BY ts"),
            ["agents.*.replicas.max", "context.cached_sessions", "caches.results.max_entries"],
        )


def unsure_routing(facts: Facts) -> Iterator[Recommendation]:
    for row in facts.rows("routing"):
        if row["runs"] >= ENOUGH and row["confidence"] is not None and row["confidence"] < UNSURE:
            yield Recommendation(
                f"Routing by {row['strategy']} is unsure",
                f"a confidence of {row['confidence']:.2f} on average over {row['runs']} runs",
                facts.sql(
                    "run_id, confidence, data ->> '$.reason' AS reason",
                    f"kind = 'run.routed' AND strategy = {_quoted(row['strategy'])}",
                    "ORDER BY confidence LIMIT 20",
                ),
                ["routing.rules", "agents.*.examples", "routing.strategy"],
            )


def unhappy_users(facts: Facts) -> Iterator[Recommendation]:
    happy, opinions = facts.figure("user_satisfaction"), facts.figure("opinions")
    if opinions >= ENOUGH and happy < UNHAPPY:
        known = [row for row in facts.rows("agents") if row["accuracy"] is not None and row["calls"] >= ENOUGH]
        worst = min(known, key=lambda row: row["accuracy"], default=None)
        who = worst["agent"] if worst else "*"
        about = f"; least accurate is {who} with {_share(worst['accuracy'])}" if worst else ""
        yield Recommendation(
            "Users are not content with the answers",
            f"a satisfaction of {_share(happy)} by {opinions:.0f} opinions{about}",
            facts.sql("run_id, score, data ->> '$.comment' AS comment", "kind = 'feedback.given'", "ORDER BY score"),
            [f"agents.{who}.system_prompt", f"agents.{who}.model"],
        )


def restless_pools(facts: Facts) -> Iterator[Recommendation]:
    for row in facts.rows("scaling"):
        if min(row["grown"], row["shrunk"]) >= RESTLESS:
            yield Recommendation(
                f"The pool of {row['agent']} does not come to rest",
                f"it grew {_times(row['grown'])} and shrank {_times(row['shrunk'])},"
                f" between {row['smallest']} and {row['largest']} replicas",
                facts.sql("ts, data", f"kind = 'pool.scaled' AND agent = {_quoted(row['agent'])}", "ORDER BY ts"),
                ["scaling.down_delay_s", f"agents.{row['agent']}.replicas.min"],
            )


def costly_model(facts: Facts) -> Iterator[Recommendation]:
    priced = [row for row in facts.rows("models") if row["cost"]]
    total, calls = sum(row["cost"] for row in priced), sum(row["calls"] for row in priced)
    if len(priced) > 1 and priced[0]["cost"] > total / 2 and priced[0]["calls"] >= ENOUGH:
        most = priced[0]
        yield Recommendation(
            f"Most of the cost is {most['model']}",
            f"{most['cost']:.4f} USD of {total:.4f} USD in {most['calls']} of {calls} calls",
            facts.sql(
                "agent, count(*), sum(cost_usd)",
                f"kind IN ('agent.finished', 'model.finished') AND model = {_quoted(most['model'])}",
                "GROUP BY agent ORDER BY 3 DESC",
            ),
            ["caches.results.enabled", "agents.*.model"],
        )


def failing_batches(facts: Facts) -> Iterator[Recommendation]:
    for row in facts.rows("batches"):
        failed, answered = row["failed"] or 0, row["ok"] or 0
        if failed and failed > MANY_ERRORS * (failed + answered):
            yield Recommendation(
                f"Batch job {row['job_id']} left many items without an answer",
                f"{failed} of {failed + answered} items failed",
                facts.sql(
                    "error, count(*)",
                    f"kind = 'run.finished' AND status = 'error' AND job_id = {_quoted(row['job_id'])}",
                    "GROUP BY error",
                ),
                ["models.*.retries", "agents.*.fallback_models"],
            )


RULES: tuple[Callable[[Facts], Iterator[Recommendation]], ...] = (
    damaged_files,
    crashes,
    failing_runs,
    waiting_calls,
    slow_agents,
    slower_than_before,
    full_memory,
    unhappy_users,
    unsure_routing,
    restless_pools,
    costly_model,
    failing_batches,
)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _share(value: float) -> str:
    return f"{value * 100:.1f} %"


def _quoted(text: str) -> str:
    return "'" + str(text).replace("'", "''") + "'"
