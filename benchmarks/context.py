"""What choosing a model's context costs, and what the search in a session finds.

    python benchmarks/context.py [--json]

`short` is what a turn pays while its session fits: with it, what it paid for the same list before. `step` is the
longest time that nobody else on the loop could work while a long session was read, the collector of garbage put off.
The public questions are BFCL v4's, from the folder that lies beside the repository (`RAYFLOW_SHARED` for another
place); without it that row is left out.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import json
import os
import re
import statistics
import time
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rayflow.chat import Message
from rayflow.config.schema import ContextConfig
from rayflow.language.sentences import sentences
from rayflow.messages import Turn
from rayflow.policies.context import Index, Known, Past, assemble, whole

SHARED = Path(os.environ.get("RAYFLOW_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
THINGS = ["curtains", "tiles", "lamps", "shelves", "paint", "chairs", "carpets", "windows", "doors", "radiators"]
WORDS = ["colour", "delivery", "material", "pattern", "height", "texture", "supplier", "shade", "finish", "frame"]
TOP = 5


def talk(count: int) -> list[Turn]:
    """A conversation of `count` turns, 140 characters each, with one fact at its beginning."""
    turns = [Turn(1, Message("user", "My dog is called Rex and he is a dachshund."))]
    for n in range(2, count + 1):
        thing, word = THINGS[n // 40 % 10], WORDS[n * 7 % 10]
        text = (
            f"The {word} of the {thing} can be chosen from catalogue page {n}. Most customers compare the {word} with"
        )
        turns.append(Turn(n, Message("user" if n % 2 else "assistant", f"{text} the rest of the room before they do.")))
    return turns


def microseconds(call: Callable[[], Any], times: int) -> dict[str, float]:
    taken = []
    for _ in range(times):
        began = time.perf_counter_ns()
        call()
        taken.append((time.perf_counter_ns() - began) / 1000)
    taken.sort()
    return {"p50_us": round(statistics.median(taken), 1), "p99_us": round(taken[int(len(taken) * 0.99)], 1)}


def short(times: int = 20_000) -> dict[str, dict[str, float]]:
    config, new = ContextConfig(), [Message("user", "And the tiles?")]
    window = deque([turn.message for turn in talk(20)], maxlen=20)
    known = Known(0.0, 1, 1)
    texts = deque([Message(m.role, " ".join([m.text] * 4)) for m in window], maxlen=20)
    return {
        "20 messages, short way": microseconds(lambda: whole(known, window, 20, new, config, 2), times),
        "20 long messages, counted": microseconds(lambda: whole(known, texts, 20, new, config, 2), times),
        "20 messages, copied only": microseconds(lambda: [*window, *new], times),
    }


def long(count: int) -> dict[str, dict[str, float]]:
    past, turns, steps = Past(), talk(count), []
    gc.collect()
    gc.disable()
    began = since = time.perf_counter()
    for _ in past.learn(turns):
        now = time.perf_counter()
        steps.append(now - since)
        since = now
    took = time.perf_counter() - began
    gc.enable()
    config, new = ContextConfig(), [Message("user", "What is the name of my dog?")]
    context = assemble(past, new, config, 1)
    assert any(piece.inclusion.turn == 1 for piece in context.pieces), "the fact is reachable"
    return {
        f"{count} turns, read": {"total_ms": round(took * 1e3, 1), "longest_step_ms": round(max(steps) * 1e3, 2)},
        f"{count} turns, chosen": microseconds(lambda: assemble(past, new, config, 1), 200),
    }


def found() -> dict[str, dict[str, float]]:
    folder = SHARED / "memory"
    if not folder.exists():
        return {}
    said: defaultdict[str, list[str]] = defaultdict(list)
    for line in gzip.decompress((folder / "bfcl_memory_conversations.jsonl.gz").read_bytes()).splitlines():
        conversation = json.loads(line)
        said[conversation["scenario"]] += [turn["content"] for turn in conversation["turns"]]
    indexes: defaultdict[str, Index] = defaultdict(Index)
    for scenario, messages in said.items():
        for seq, text in enumerate(messages, 1):
            indexes[scenario].add(seq, "user", sentences(text))
    rows = [json.loads(line) for line in (folder / "bfcl_memory_questions.jsonl").read_text().splitlines()]
    hits = dict.fromkeys((1, TOP), 0)
    for row in rows:
        top = [said[row["scenario"]][hit.seq - 1] for hit in indexes[row["scenario"]].search(row["question"], TOP)]
        for depth in hits:
            hits[depth] += any(_holds(text, answer) for text in top[:depth] for answer in row["accepted_answers"])
    return {"BFCL memory questions, lexical": {"questions": len(rows), **{f"top_{k}": n for k, n in hits.items()}}}


def _holds(text: str, answer: str) -> bool:
    plain = [f" {re.sub(r'[^a-z0-9]+', ' ', part.lower()).strip()} " for part in (text, answer)]
    return plain[1] in plain[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    rows = {**short(), **long(400), **long(2000), **found()}
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for name, figures in rows.items():
        print(f"{name:<32}", "  ".join(f"{key} {value:g}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
