"""The command: which faults, how often, and what is printed. Figures go to stdout, progress to stderr."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from faults.fault import Fault
from faults.registry import FAULTS, TRIALS
from faults.report import BrokenOff, Report
from faults.run import run_fault
from faults.system import running
from faults.trial import Trial, Verdict, run_trial

WARM_UP_S = 5.0
_COLUMNS = (
    "fault",
    "n",
    "requests",
    "acked",
    "violations",
    "errors",
    "cut streams",
    "retried",
    "healing s",
    "p50/p99 ms",
    "",
)


ALL: dict[str, Fault | Trial] = {**FAULTS, **TRIALS}
Result = Report | Verdict | BrokenOff


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where every promise was kept, 1 where one was not, 2 for wrong arguments."""
    asked = _parser().parse_args(arguments)
    if asked.list:
        for fault in ALL.values():
            sys.stdout.write(f"{fault.name:20} x{fault.times:<4} {fault.promise}\n")
        return 0
    chosen = [ALL[name] for name in asked.fault] if asked.fault else list(ALL.values())
    results = [_run(fault, asked.kills or fault.times, asked.seed, asked.rate) for fault in chosen]
    passed = all(result.passed for result in results)
    if asked.json:
        faults = [result.as_json() for result in results]
        json.dump({"seed": asked.seed, "rate": asked.rate, "passed": passed, "faults": faults}, sys.stdout)
        sys.stdout.write("\n")
    else:
        sys.stdout.write(table(results) + "\n")
    return 0 if passed else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--fault", action="append", metavar="NAME", choices=ALL, help="only this one; repeatable")
    parser.add_argument(
        "--kills", type=int, metavar="N", help="injections of each fault, or size of each trial (default: its own)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of victims, moments, sessions and latencies")
    parser.add_argument("--rate", type=float, default=50.0, help="requests per second")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--list", action="store_true", help="name the faults and stop")
    return parser


def _run(fault: Fault | Trial, times: int, seed: int, rate: float) -> Result:
    """The report; where the fault broke the harness itself, why. The folder of a failed run is kept."""
    folder = Path(tempfile.mkdtemp(prefix=f"rf-{fault.name[:4]}-"))
    _say(f"{fault.name}: {fault.promise}")
    result: Result
    try:
        result = asyncio.run(_run_in(folder, fault, times, seed, rate))
    except (AssertionError, OSError, EOFError, RuntimeError, aiohttp.ClientError) as error:
        result = BrokenOff(fault.name, [f"the run broke off: {type(error).__name__}: {str(error)[-2000:]}"])
    if result.passed:
        shutil.rmtree(folder, ignore_errors=True)
        _say(f"{fault.name}: passed")
    else:
        for reason in result.reasons:
            _say(f"{fault.name}: {reason}")
        _say(f"{fault.name}: FAILED; state, logs and the clients' log are in {folder}")
    return result


async def _run_in(folder: Path, fault: Fault | Trial, times: int, seed: int, rate: float) -> Report | Verdict:
    async with running(
        folder, seed, shards=fault.shards, through_proxy=fault.through_proxy, store=fault.store
    ) as system:
        if isinstance(fault, Trial):
            return await run_trial(fault, system, times=times, seed=seed, say=_say)
        return await run_fault(fault, system, times=times, rate=rate, seed=seed, warm_up_s=WARM_UP_S, say=_say)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def table(results: Sequence[Result]) -> str:
    """A row for each fault, and the reasons of those that failed."""
    rows = [_COLUMNS, *(_row(result) for result in results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *(f"{result.fault}: {reason}" for result in results for reason in result.reasons)])


def _row(result: Result) -> tuple[str, ...]:
    if isinstance(result, BrokenOff):
        return (result.fault, *[""] * (len(_COLUMNS) - 2), "FAIL")
    if isinstance(result, Verdict):
        figures = (result.trials, result.requests, result.acknowledged)
        rest = [""] * (len(_COLUMNS) - 5)
        return (result.fault, *map(str, figures), *rest, "pass" if result.passed else "FAIL")
    latency, healing = result.latency_s, result.healing_s
    violations = " ".join(f"{kind}:{count}" for kind, count in result.violations.items() if count)
    cut = f"{result.stream_errors}" + (f" (<= {result.stream_error_max_s:.2f} s)" if result.stream_errors else "")
    return (
        result.fault,
        str(result.injections),
        str(result.requests),
        str(result.acknowledged),
        violations or "none",
        str(sum(result.safe_errors.values())),
        cut,
        str(result.retried_connections),
        f"{_shown(healing['median'])}/{_shown(healing['max'])}",
        f"{_ms(latency['before_p50'])}/{_ms(latency['before_p99'])} -> "
        f"{_ms(latency['around_p50'])}/{_ms(latency['around_p99'])}",
        "pass" if result.passed else "FAIL",
    )


def _shown(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f}"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f}"
