"""Child processes of a command: they never outlive their parent, and Ctrl-C reaches only the parent.

The kernel signals a child when its parent dies (PR_SET_PDEATHSIG), so not even `kill -9` of the parent leaves one
behind.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from rayflow.clock import SYSTEM_CLOCK
from rayflow.errors import Unavailable
from rayflow.policies.restart import RestartPolicy, decide

log = logging.getLogger(__name__)

HURRY_S = 5.0
"""A child that was asked twice to end gets so long until it is killed."""

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Called first thing in a child: this signal when the parent dies. Linux only; elsewhere the parent must stop its
    children."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def take_stdout() -> Callable[[dict[str, Any]], None]:
    """Called in a child: stdout becomes the way to say JSON lines to the parent; what libraries print goes to
    stderr."""
    own = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(line: dict[str, Any]) -> None:
        own.write(json.dumps(line) + "\n")

    return say


async def spawn(
    module: str, *arguments: str, stdin: bytes | None = None, stderr: Path | None = None, pass_fds: Sequence[int] = ()
) -> asyncio.subprocess.Process:
    """Start `python -m MODULE PARENT_PID ARGUMENTS`; its stdout is a pipe. `stdin` is written and closed; `stderr` is
    a file to append to, ours by default."""
    errors = stderr.open("ab") if stderr is not None else None
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        str(os.getpid()),
        *arguments,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=errors,
        pass_fds=pass_fds,
        start_new_session=True,
    )
    if errors is not None:
        errors.close()
    if stdin is not None:
        assert process.stdin is not None
        process.stdin.write(stdin)
        await process.stdin.drain()
        process.stdin.close()
    return process


class Keeper:
    """Keeps one child process running: starts it, hears the JSON lines it says on stdout, starts it again when it dies.

    `start` makes the process, `heard` takes each line. `policy` bounds the restarts.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Awaitable[asyncio.subprocess.Process]],
        heard: Callable[[dict[str, Any]], None],
        policy: RestartPolicy,
    ) -> None:
        self._name = name
        self._start = start
        self._heard = heard
        self._policy = policy
        self._process: asyncio.subprocess.Process | None = None
        self._ending = False
        self._rng = random.Random()

    async def run(self) -> None:
        """Until `end` is called. Raises `Unavailable` when the child dies too often."""
        deaths: list[float] = []
        while not self._over():
            process = self._process = await self._start()
            if self._over():  # `end` came while it started, and did not see it
                process.terminate()
            assert process.stdout is not None
            async for line in process.stdout:
                self._heard(json.loads(line))
            code = await process.wait()
            if self._over():
                return
            deaths.append(SYSTEM_CLOCK.now())
            delay_s = decide(deaths, self._policy, SYSTEM_CLOCK.now(), self._rng)
            if delay_s is None:
                raise Unavailable(
                    f"{self._name} died {len(deaths)} times (last exit code {code}): see the logs in the state folder"
                )
            log.error("%s ended with code %d; starting it again", self._name, code)
            await asyncio.sleep(delay_s)

    def _over(self) -> bool:
        return self._ending

    async def end(self, budget_s: float, hurry: asyncio.Event) -> int:
        """SIGTERM; a second one, which means at once, when the budget is spent or `hurry` is set; SIGKILL when that
        does not help. Returns the exit code, which is 0 for a child that had not come so far as to handle SIGTERM."""
        self._ending = True
        process = self._process
        if process is None:
            return 0
        if process.returncode is not None:
            return process.returncode
        return await ended(process, budget_s, hurry)


class OnDemand:
    """Runs one child process while there is something to do: it is started when somebody wakes it, ends by itself when
    it has nothing to do, and is started again when it dies before. `policy` bounds the restarts; beyond them it waits
    for the next call, because nothing else depends on it.
    """

    def __init__(
        self, name: str, start: Callable[[], Awaitable[asyncio.subprocess.Process]], policy: RestartPolicy
    ) -> None:
        self._name = name
        self._start = start
        self._policy = policy
        self._woken = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._ending = False
        self._rng = random.Random()

    def wake(self) -> None:
        """There is something to do."""
        self._woken.set()

    async def run(self) -> None:
        """Until `end` is called."""
        deaths: list[float] = []
        while True:
            await self._woken.wait()
            if self._over():
                return
            self._woken.clear()
            process = self._process = await self._start()
            if self._over():  # `end` came while it started, and did not see it
                process.terminate()
            code = await process.wait()
            if self._over():
                return
            if code:
                log.error("%s ended with code %d", self._name, code)
                deaths.append(SYSTEM_CLOCK.now())
                delay_s = decide(deaths, self._policy, SYSTEM_CLOCK.now(), self._rng)
                if delay_s is not None:
                    await asyncio.sleep(delay_s)
                    self._woken.set()

    def _over(self) -> bool:
        return self._ending

    async def end(self, budget_s: float, hurry: asyncio.Event) -> int:
        """As `Keeper.end`."""
        self._ending = True
        self._woken.set()
        if self._process is None:
            return 0
        if self._process.returncode is not None:
            return self._process.returncode
        return await ended(self._process, budget_s, hurry)


async def ended(process: asyncio.subprocess.Process, budget_s: float, hurry: asyncio.Event) -> int:
    """End a process that runs, as `Keeper.end` says. Returns its exit code."""
    process.terminate()
    end = asyncio.ensure_future(process.wait())
    hurried = asyncio.ensure_future(hurry.wait())
    await asyncio.wait({end, hurried}, timeout=budget_s, return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    if end.done():
        return 0 if end.result() == -signal.SIGTERM else end.result()
    process.terminate()
    await asyncio.wait({end}, timeout=HURRY_S)
    if not end.done():
        process.kill()
    return await end
