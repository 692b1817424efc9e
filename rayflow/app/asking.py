"""A question that a person waits for, and may break off with Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import NoReturn

import pyarrow as pa

from rayflow.analytics.database import Log, Params

AGAIN_S = 0.1


def ask(log: Log, sql: str, params: Params = None) -> pa.Table:
    """`Log.query` in a thread, so that signals are heard meanwhile: at a `KeyboardInterrupt`, DuckDB is told to break
    off, and the exception goes on when it has."""
    answer: Future[pa.Table] = Future()
    try:
        # Not an executor: one that is interrupted while its thread starts forgets the thread.
        Thread(target=_answer, args=(answer, log, sql, params)).start()
        return answer.result()
    except KeyboardInterrupt:
        while not (answer.cancel() or answer.done()):  # told again, as DuckDB may not have begun when it was told
            log.interrupt()
            wait([answer], AGAIN_S)
        raise


def watch(every_s: float, once: Callable[[], object]) -> NoReturn:
    """Ask again, every so many seconds. A `KeyboardInterrupt` ends it, and goes on."""
    while True:
        once()
        time.sleep(every_s)


def _answer(answer: Future[pa.Table], log: Log, sql: str, params: Params) -> None:
    if not answer.set_running_or_notify_cancel():
        return
    try:
        answer.set_result(log.query(sql, params))
    except BaseException as problem:
        answer.set_exception(problem)
