"""Work on one question: in a process of its own, which ends with it."""

from __future__ import annotations

import socket
from itertools import islice
from pathlib import Path
from typing import NoReturn

import duckdb
import pyarrow as pa

from rayflow.analytics.analyst import confinement
from rayflow.analytics.analyst.question import Column, Question
from rayflow.analytics.analyst.sealed import SealedLog, open_database
from rayflow.analytics.analyst.survey import Survey, relative
from rayflow.analytics.analyst.wire import MAX_HEAD_BYTES, Reply, Task, framed, receive_task
from rayflow.analytics.database import open_log
from rayflow.analytics.render import csv_pieces, json_pieces
from rayflow.errors import NotFound, SqlNotAllowed, SqlTooLarge, StorageError, Unavailable, WorkflowError, to_info

DATABASE_SHARE = 0.5
"""Of the memory that is left when the process has started: DuckDB's. The rest is for Arrow, and for writing the answer
down."""
UNREADABLE_SHOWN = 100
MAX_MESSAGE = 2000
"""Characters: messages quote the SQL."""


def work(asker: socket.socket, root: Path, required: bool) -> None:
    """Read the question, answer it. `required`: only in the whole sandbox."""
    task = receive_task(asker)
    question = task.question
    confinement.limit_time(task.time_s)
    confinement.limit_memory(question.limits.memory_bytes)
    try:
        if not root.is_dir():
            raise NotFound("there is no event log yet", kind="event log", id="events")
        reply, body = _trusted(question, root) if question.trusted else _from_outside(task, root, required)
    except (MemoryError, duckdb.OutOfMemoryException, pa.ArrowMemoryError):
        reply, body = _failed(_too_much_memory(question)), b""
    except duckdb.Error as problem:
        reply, body = _failed(SqlNotAllowed(str(problem)[:MAX_MESSAGE], param="sql")), b""
    except Exception as problem:
        reply, body = _failed(problem), b""
    asker.sendall(framed(reply))
    asker.sendall(body)


def _trusted(question: Question, root: Path) -> tuple[Reply, bytes]:
    with open_log(root) as log:
        rows = log.query(question.sql, question.params or None)
        unreadable = {relative(path, root): reason for path, reason in log.unreadable.items()}
    columns = [Column(field.name, str(field.type)) for field in rows.schema]
    return _written(question, columns, rows, unreadable)


def _from_outside(task: Task, root: Path, required: bool) -> tuple[Reply, bytes]:
    question = task.question
    survey = Survey(root, task.time_s, task.verify)
    database = open_database(int((question.limits.memory_bytes - confinement.memory_in_use()) * DATABASE_SHARE))
    give_up_everything(root, required)
    log = SealedLog(database, root, survey.findings.segments, survey.open_rows, question.tenant)
    try:
        relation = log.ask(question.sql, question.params)
        columns = [Column(name, str(kind)) for name, kind in zip(relation.columns, relation.types, strict=True)]
        rows = relation.limit(question.limits.rows + 1).to_arrow_table()
    except (duckdb.Error, OSError) as problem:
        if _blames_rows(problem):
            raise StorageError("a file of the event log is damaged") from problem
        raise
    return _written(question, columns, rows, survey.findings.unreadable)


def give_up_everything(root: Path, required: bool) -> None:
    """All but reading the log. `required`: raises `Unavailable` where that cannot be had whole."""
    offers = confinement.Offers(confinement.landlock_version(), confinement.leave_network())
    if required and not offers.enough:
        _refuse(f"this kernel offers Landlock version {offers.landlock}")
    if required and confinement.threads() != 1:
        _refuse("threads run already that would stay outside")
    confinement.limit_files()
    steps = [lambda: confinement.shut_in([root])] if offers.landlock else []
    for step in (*steps, confinement.drop_privileges):
        try:
            step()
        except OSError as problem:
            if required:
                _refuse(f"the kernel refuses it: {problem}")


def _refuse(why: str) -> NoReturn:
    raise Unavailable(
        f"SQL over HTTP needs a sandbox, and {why}; `rayflow doctor` tells more, and "
        "`monitoring.sql_sandbox: best_effort` goes without what is missing",
        setting="monitoring.sql_sandbox",
    )


def _written(
    question: Question, columns: list[Column], rows: pa.Table, unreadable: dict[str, str]
) -> tuple[Reply, bytes]:
    shown = rows.slice(0, question.limits.rows)
    if shown.nbytes > question.limits.answer_bytes:
        raise _too_large(question)
    try:
        body = _encoded(shown, question)
    except (ValueError, OverflowError, pa.ArrowException) as problem:
        raise SqlNotAllowed(
            f"a value of the answer cannot be written as {question.form}; cast it to VARCHAR ({problem})", param="sql"
        ) from problem
    named = dict(islice(unreadable.items(), UNREADABLE_SHOWN))
    reply = Reply(columns, shown.num_rows, rows.num_rows > shown.num_rows, named, len(body))
    if len(framed(reply)) > MAX_HEAD_BYTES:
        raise _too_large(question)
    return reply, body


def _encoded(rows: pa.Table, question: Question) -> bytes:
    if question.form == "arrow":
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as stream:
            stream.write_table(rows)
        body = bytearray(sink.getvalue())
    else:
        body = bytearray()
        for piece in (json_pieces if question.form == "json" else csv_pieces)(rows):
            body += piece.encode(errors="replace")
            if len(body) > question.limits.answer_bytes:
                break
    if len(body) > question.limits.answer_bytes:
        raise _too_large(question)
    return bytes(body)


def _too_large(question: Question) -> SqlTooLarge:
    limit = question.limits.answer_bytes
    return SqlTooLarge(f"the answer is larger than {limit} bytes; ask for less of it", limit_bytes=limit)


def _too_much_memory(question: Question) -> SqlTooLarge:
    limit = question.limits.memory_bytes
    return SqlTooLarge(f"the question needs more memory than {limit} bytes", limit_bytes=limit)


def _blames_rows(problem: Exception) -> bool:
    """A page does not match its checksum, or a file was merged away after the snapshot."""
    text = str(problem)
    return isinstance(problem, OSError) or any(sign in text for sign in ("IOError", "OSError", "CRC", "No such file"))


def _failed(problem: Exception) -> Reply:
    if isinstance(problem, WorkflowError):
        return Reply(error=problem.to_info())
    return Reply(error=to_info(problem))
