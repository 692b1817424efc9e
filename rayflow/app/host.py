"""The process that holds Ray for the serve command: a Ray driver with the system on it.

It is separate from the serve command, which must outlive Ray. The configuration comes in on stdin (it holds keys, and
arguments are visible to everybody); one JSON line on stdout says that the system is ready, or why it is not.

    python -m rayflow.app.host PARENT_PID RUN_DIR [RAY_ADDRESS]
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rayflow.app.children import end_with_parent, take_stdout
from rayflow.app.logs import to_file
from rayflow.app.system import RaySystem
from rayflow.config.schema import WorkflowConfig
from rayflow.config.transfer import restore
from rayflow.errors import Exit, WorkflowError


async def run(config: WorkflowConfig, run_dir: Path, address: str | None, say: Callable[[dict[str, Any]], None]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    system = RaySystem(config, run_dir, address)
    try:
        async with system:
            # Ray sets handlers of its own while it starts; ours must come after.
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
            say({"ready": system.status.timeline})
            asked = asyncio.create_task(stop.wait())
            await asyncio.wait({asked, system.lost}, return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            if not stop.is_set():
                say({"error": f"the system was lost: {system.lost.result()}", "slug": "unavailable"})
                return Exit.DEPENDENCY
    except WorkflowError as error:
        say({"error": error.message, "slug": error.slug})
        return Exit.DEPENDENCY
    return Exit.PARTIAL if system.left else Exit.OK


def main() -> None:
    import uvloop

    parent, run_dir, *address = sys.argv[1:]
    end_with_parent(int(parent), signal.SIGTERM)
    say = take_stdout()
    config = restore(sys.stdin.buffer.read())
    to_file(config, "host")
    sys.exit(uvloop.run(run(config, Path(run_dir), address[0] if address else None, say)))


if __name__ == "__main__":
    main()
