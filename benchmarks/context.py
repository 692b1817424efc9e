"""What choosing a model's context costs, and what the search in a session finds.

    python benchmarks/context.py [--json] [--embeddings URL --model NAME]

`short` is what a turn pays while its session fits: with it, what it paid for the same list before. `step` is the
longest time that nobody else on the loop could work while a long session was read, the collector of garbage put off.
The public questions are BFCL v4's, from the folder that lies beside the repository (`RAYFLOW_SHARED` for another
place); without it those rows are left out. With `--embeddings`, an OpenAI-compatible endpoint such as
http://127.0.0.1:8080/v1, they are also searched with vectors of that model.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import gzip
import json
import os
import re
import statistics
import time
from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from rayflow.chat import Message
from rayflow.config.schema import ContextConfig, EmbeddingsConfig, WorkflowConfig
from rayflow.language.sentences import sentences
from rayflow.messages import Turn
from rayflow.models.embeddings import Embeddings, HashedWords
from rayflow.models.factory import embeddings
from rayflow.policies.context import Index, Known, Past, assemble, plain
from rayflow.policies.similarity import similarity

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
        "20 messages, short way": microseconds(lambda: plain(known, window, 20, new, config, 2), times),
        "20 long messages, counted": microseconds(lambda: plain(known, texts, 20, new, config, 2), times),
        "20 messages, copied only": microseconds(lambda: [*window, *new], times),
    }


def long(count: int) -> dict[str, dict[str, float]]:
    past, turns, steps = Past(), talk(count), []
    gc.collect()
    gc.disable()
    began = since = time.perf_counter()
    for _ in chain(past.learn(turns), past.analyse()):
        now = time.perf_counter()
        steps.append(now - since)
        since = now
    took = time.perf_counter() - began
    gc.enable()
    config, new = ContextConfig(retrieval=5), [Message("user", "What is the name of my dog?")]
    context = assemble(past, new, config, 1)
    assert any(piece.inclusion.turn == 1 for piece in context.pieces), "the fact is reachable"
    return {
        f"{count} turns, read": {"total_ms": round(took * 1e3, 1), "longest_step_ms": round(max(steps) * 1e3, 2)},
        f"{count} turns, chosen": microseconds(lambda: assemble(past, new, config, 1), 200),
    }


def found(embedder: Callable[[], Embeddings] | None) -> dict[str, dict[str, float]]:
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

    def score(meanings: dict[str, dict[int, float]] | None) -> dict[str, float]:
        hits = dict.fromkeys((1, TOP), 0)
        for row in rows:
            texts, asked = said[row["scenario"]], row["question"]
            alike = None if meanings is None else meanings[asked]
            best = indexes[row["scenario"]].search(asked, TOP, meaning=alike, weight=EmbeddingsConfig().weight)
            top = [texts[hit.seq - 1] for hit in best]
            for depth in hits:
                hits[depth] += any(_holds(text, answer) for text in top[:depth] for answer in row["accepted_answers"])
        return {"questions": len(rows), **{f"top_{k}": n for k, n in hits.items()}}

    results = {"BFCL memory questions, lexical": score(None)}
    for name, build in (("hashed words", hashed), ("vectors of the endpoint", embedder)):
        if build is not None:
            results[f"BFCL memory questions, {name}"] = score(asyncio.run(_alike(build, rows, said)))
    return results


def hashed() -> Embeddings:
    return Embeddings(HashedWords(), EmbeddingsConfig())


def endpoint(url: str, model: str) -> Embeddings:
    entry = {"name": model, "provider": "openai", "base_url": url, "api_key": "none", "timeouts": {"total_s": 600.0}}
    given = {"name": "w", "agents": [{"name": "a"}], "models": [entry], "embeddings": {"model": model}}
    return embeddings(WorkflowConfig.model_validate(given))


async def _alike(
    build: Callable[[], Embeddings], rows: list[dict[str, Any]], said: dict[str, list[str]]
) -> dict[str, dict[int, float]]:
    """For each question, how alike it and every message are."""
    embedder = build()
    try:
        messages = {scenario: await embedder.embed(texts) for scenario, texts in said.items()}
        asked = await embedder.embed([row["question"] for row in rows])
    finally:
        await embedder.close()
    return {
        row["question"]: {seq: similarity(vector, other) for seq, other in enumerate(messages[row["scenario"]], 1)}
        for row, vector in zip(rows, asked, strict=True)
    }


def _holds(text: str, answer: str) -> bool:
    plain = [f" {re.sub(r'[^a-z0-9]+', ' ', part.lower()).strip()} " for part in (text, answer)]
    return plain[1] in plain[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--embeddings", metavar="URL", help="an endpoint whose vectors are tried, too")
    parser.add_argument("--model", default="embeddings", help="its model")
    given = parser.parse_args()
    as_json, embedder = given.json, partial(endpoint, given.embeddings, given.model) if given.embeddings else None
    rows = {**short(), **long(400), **long(2000), **found(embedder)}
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for name, figures in rows.items():
        print(f"{name:<32}", "  ".join(f"{key} {value:g}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
