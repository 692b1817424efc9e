"""The same requests, many times at once, at all doors: each is worked on once, and all are told the same."""

from __future__ import annotations

import asyncio

from faults.trial import Ground, Trial
from faults.wire import Answer, Connection, connection_to

DUPLICATES = 20
KEYS_AT_ONCE = 4


class Idempotency(Trial):
    """`times` counts keys; each is sent by `DUPLICATES` clients at once, every second one at another door."""

    name = "idempotency"
    promise = "of one key, however often and wherever it is sent, there is one run, one call of a model, one answer"
    measure = "keys"
    times = 1000

    async def run(self, ground: Ground) -> None:
        doors = await ground.doors()
        ground.expect(len(doors) == 2, f"{len(doors)} ingress processes are ready")
        keys, lines = iter(range(ground.times)), list[list[Connection]]()

        async def work(clients: list[Connection]) -> None:
            for key in keys:
                await _one_key(ground, key, clients)

        async with asyncio.TaskGroup() as working:
            for _ in range(KEYS_AT_ONCE):
                lines.append([await connection_to(ground.port, doors[n % len(doors)]) for n in range(DUPLICATES)])
                # At once: the server closes a connection over which nothing is asked for five seconds.
                working.create_task(work(lines[-1]))
        asked = {question: n for question, n in ground.system.upstream.calls.items() if " of idem-" in question}
        ground.notes = {"keys": ground.times, "model_calls": sum(asked.values())}
        ground.expect(
            len(asked) == sum(asked.values()) == ground.times,
            f"{sum(asked.values())} model calls of {len(asked)} questions for {ground.times} keys",
        )
        for line in lines:
            for client in line:
                client.hang_up()


async def _one_key(ground: Ground, key: int, clients: list[Connection]) -> None:
    # Every second key brings its session along; the others get one that follows from the key.
    named, session = key % 2 == 0, f"idem-{key}"
    body = {"message": f"turn 1 of {session} for alpha", **({"session_id": session} if named else {})}
    headers = {"idempotency-key": f"key-{key}-{ground.rng.getrandbits(64):x}"}
    answers = await asyncio.gather(*(client.ask("POST", "/chat", body, headers) for client in clients))
    late = await clients[0].ask("POST", "/chat", body, headers)
    other = await clients[1].ask("POST", "/chat", {**body, "message": f"{body['message']}?"}, headers)
    ground.requests += len(answers) + 2
    ground.acknowledged += sum(answer.status == 200 for answer in answers)
    bad = [answer for answer in answers if answer.status != 200]
    if bad or late.status != 200:
        ground.problems.append(f"key {key}: {len(bad)} of {len(answers)} were refused, as {(bad or [late])[0]}")
        return
    told = {_told(answer) for answer in [*answers, late]}
    ground.expect(len(told) == 1, f"key {key}: {len(told)} different answers, as {sorted(told)[:2]}")
    ground.expect(other.status == 422, f"key {key}: another body got {other.status} {other.body[:200]!r}")
    turns = await ground.history(answers[0].json["conversation_id"])
    ground.expect(len(turns) == 2, f"key {key}: its session has {len(turns)} turns")


def _told(answer: Answer) -> tuple[str, str, str, int, int, int]:
    said = answer.json
    usage = said["usage"]
    return (
        said["content"],
        said["run_id"],
        said["conversation_id"],
        said["metadata"]["turn"],
        usage["prompt_tokens"],
        usage["completion_tokens"],
    )
