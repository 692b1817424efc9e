"""The process that has DuckDB and Arrow loaded, and forks for every question.

It never sees a question: with each request comes one end of a socket, which the fork takes over. To load both libraries
takes half a second; a fork takes milliseconds and shares their memory. No library may have threads at work here,
because a fork takes only the one that calls it along.

    python -P -m rayflow.analytics.analyst.template EVENTS_FOLDER required|best_effort

stdin: the socket on which requests come. Its end, which comes with the death of the asker at the latest, is the end of
this process and thereby of its forks.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rayflow.analytics.analyst import confinement

NICENESS = 10
"""Those who chat go first."""


def main() -> None:
    root, sandbox = Path(sys.argv[1]), sys.argv[2]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    from rayflow.analytics.analyst.work import work

    nothing = os.open(os.devnull, os.O_RDWR)
    control = socket.socket(fileno=0)
    gc.collect()
    gc.freeze()  # so that the collector of a fork does not touch, and thereby copy, what is shared
    # What our own questions spill to disk goes with this process, whoever ends them.
    with tempfile.TemporaryDirectory(prefix="rayflow-analyst-", ignore_cleanup_errors=True) as spill:
        tempfile.tempdir = spill
        _fork_for_each(control, nothing, lambda asker: work(asker, root, sandbox == "required"))
    os._exit(0)  # DuckDB's bindings would complain about what is frozen


def _fork_for_each(control: socket.socket, nothing: int, work: Callable[[socket.socket], None]) -> None:
    me = os.getpid()
    while True:
        message, fds, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        _reap()
        if os.fork():
            os.close(fds[0])
            continue
        try:
            confinement.end_with_parent(me)
            work(_keep_only(fds[0], nothing))
        finally:
            os._exit(0)


def _keep_only(fd: int, nothing: int) -> socket.socket:
    """Close all files but this one, and give the asker the means to end this process, whatever it does."""
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.closerange(3, fd)
    os.closerange(fd + 1, os.sysconf("SC_OPEN_MAX"))
    asker = socket.socket(fileno=fd)
    handle = os.pidfd_open(os.getpid())
    socket.send_fds(asker, [b"\0"], [handle])
    os.close(handle)
    return asker


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    main()
