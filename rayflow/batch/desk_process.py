"""The process that runs batch jobs which came in over HTTP: a member of the fabric, not of Ray.

The serve command starts it when a job comes in, or waits from before; it ends when there has been nothing to do for
`batch.idle_s`. A system that is lost is joined again.

    python -m rayflow.batch.desk_process PARENT_PID RUN_DIR
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from rayflow.app.children import end_with_parent, take_stdout
from rayflow.app.logs import to_file
from rayflow.app.system import attach
from rayflow.batch.desk import Desk
from rayflow.config.transfer import restore
from rayflow.errors import Exit, Unavailable

JOIN_S = 2.0
REJOIN_S = 0.2


class Runner:
    """Joins the system and works there, until it is idle or stopped."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._stopped = asyncio.Event()
        self._desk: Desk | None = None

    def stop(self) -> None:
        """Finish the rows in flight; asked again, drop them."""
        if self._stopped.is_set():
            os._exit(Exit.PARTIAL)
        self._stopped.set()
        if self._desk is not None:
            self._desk.stop()

    async def run(self) -> None:
        while not self._stopped.is_set():
            try:
                if await self._visit():
                    return
            except Unavailable:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopped.wait(), REJOIN_S)

    async def _visit(self) -> bool:
        """Work in the system for as long as it is there. Whether that was all. Raises `Unavailable`."""
        member, client = await attach(self._run_dir, f"client/batch-{os.getpid()}", "client", patience_s=JOIN_S)
        member.on_configure = lambda config: setattr(client, "config", restore(config))
        config = client.config
        to_file(config, "batch")
        self._desk = desk = Desk(client, config.batch.idle_s)
        if self._stopped.is_set():
            desk.stop()
        working = asyncio.create_task(desk.run())
        lost = asyncio.create_task(member.lost.wait())
        await asyncio.wait({working, lost}, return_when=asyncio.FIRST_COMPLETED)
        ended = working.done()
        try:
            if not ended:
                working.cancel()
                with suppress(asyncio.CancelledError):
                    await working
                return False
            await working
            return True
        finally:
            self._desk = None
            lost.cancel()
            client.close()
            if ended:
                await member.leave()
            await member.close()


async def _main(run_dir: Path) -> None:
    runner = Runner(run_dir)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, runner.stop)
    await runner.run()


def main() -> None:
    import uvloop

    parent, run_dir = sys.argv[1:]
    end_with_parent(int(parent))
    take_stdout()
    uvloop.run(_main(Path(run_dir)))


if __name__ == "__main__":
    main()
