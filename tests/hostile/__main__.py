"""`python -m tests.hostile [--json] [--all]`: the statements, and how well the limits held."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

if __name__ == "__main__":
    # As under pytest, whose `pythonpath` is the folder `tests`.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from hostile.attack import attack
    from hostile.corpus import ATTACKS
    from hostile.scene import Scene

    TIME_S, MEMORY_BYTES, BODY_BYTES = 2.0, 384 << 20, 1 << 20

    async def main() -> int:
        with tempfile.TemporaryDirectory() as folder:
            limits = {"sql_timeout_s": TIME_S, "sql_memory_bytes": MEMORY_BYTES, "sql_max_bytes": BODY_BYTES}
            scene = Scene(Path(folder), **limits)
            before = scene.digests()
            async with scene.served() as http:
                outcomes = await attack(scene, http, ATTACKS)
            unchanged = scene.digests() == before
        report = {
            "statements": len(outcomes),
            "unexpected": [str(outcome) for outcome in outcomes if not outcome.expected],
            "leaks": [str(outcome) for outcome in outcomes if outcome.leaked],
            "files_unchanged": unchanged,
            "answers": dict(Counter(outcome.slug or "answered" for outcome in outcomes)),
            "time_limit_s": TIME_S,
            "longest_over_limit_ms": round(1000 * (max(outcome.seconds for outcome in outcomes) - TIME_S), 1),
            "memory_limit_mib": MEMORY_BYTES >> 20,
            "most_over_limit_mib": round((max(outcome.peak_bytes for outcome in outcomes) - MEMORY_BYTES) / 2**20, 1),
        }
        if "--all" in sys.argv:
            sys.stdout.write("".join(f"{outcome}\n" for outcome in outcomes))
        indent = None if "--json" in sys.argv else 2
        sys.stdout.write(json.dumps(report, indent=indent) + "\n")
        return int(bool(report["unexpected"] or report["leaks"]) or not unchanged)

    sys.exit(asyncio.run(main()))
