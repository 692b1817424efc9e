"""What routing is worth on public labelled messages: the table of docs/policies/routing.md.

    python benchmarks/routing.py FOLDER

FOLDER holds clinc150_train, clinc150_val and nlupp_hotels (.jsonl.gz). CLINC150's ten domains are ten agents. NLU++'s
messages have several intents, each an agent; it is cross-validated over its 20 folds, four at a time.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rayflow.app.labelled import LabelledFile, read
from rayflow.app.route_check import Evaluation, evaluate_trained

Row = dict[str, Any]


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(_all(folder, Path(scratch)))


async def _all(folder: Path, scratch: Path) -> None:
    train, rows = folder / "clinc150_train.jsonl.gz", read(folder / "clinc150_val.jsonl.gz", "domain")
    print("| data | strategy | accuracy in scope | without threshold | out-of-scope recall | ECE | us | training s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for examples in (None, 10, 3):
        taught = read(_kept(train, scratch / "train.jsonl", _first(examples)) if examples else train, "domain")
        for strategy in ("intelligent", "semantic"):
            figures = await evaluate_trained(taught, rows, [f"routing.strategy={strategy}"])
            _print(f"{examples or 'all'} an intent", figures)
    print("\n| NLU++ folds held out | precision | recall | ECE |")
    print("| --- | --- | --- | --- |")
    for first in range(0, 20, 4):
        held = range(first, first + 4)
        evaluation = await evaluate_trained(*_split(folder / "nlupp_hotels.jsonl.gz", scratch, held))
        made = evaluation.report
        error = made.expected_calibration_error
        print(f"| {first} to {first + 3} | {made.precision:.3f} | {made.recall:.3f} | {error:.3f} |")


def _print(data: str, figures: Evaluation) -> None:
    made = figures.report
    print(
        f"| {data} | {figures.strategy} | {made.accuracy_in_scope:.1%} | {made.accuracy_without_threshold:.1%}"
        f" | {made.out_of_scope_recall:.0%} | {made.expected_calibration_error:.3f}"
        f" | {figures.microseconds_per_decision:.0f} | {figures.training_cpu_seconds:.1f} |",
        flush=True,
    )


def _split(source: Path, scratch: Path, held: Iterable[int]) -> tuple[LabelledFile, LabelledFile]:
    out = frozenset(held)
    taught = _kept(source, scratch / "taught.jsonl", lambda row: row["fold"] not in out)
    judged = _kept(source, scratch / "judged.jsonl", lambda row: row["fold"] in out)
    return read(taught, "intents"), read(judged, "intents")


def _first(examples: int | None) -> Callable[[Row], bool]:
    seen: Counter[str] = Counter()

    def wanted(row: Row) -> bool:
        seen[row["intent"]] += 1
        return examples is None or seen[row["intent"]] <= examples

    return wanted


def _kept(source: Path, to: Path, wanted: Callable[[Row], bool]) -> Path:
    with gzip.open(source, "rt") as lines, to.open("w") as file:
        file.writelines(line for line in lines if wanted(json.loads(line)))
    return to


if __name__ == "__main__":
    main(Path(sys.argv[1]))
