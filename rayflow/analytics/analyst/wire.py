"""How a question and its answer travel between the process that asks and the one that works on it.

A task is a length and JSON. A reply is a length, JSON, and the answer's body, whose size the JSON names: the asker
checks each number before it reads on, because whoever wrote it has run SQL from outside.
"""

from __future__ import annotations

import asyncio
import socket
from struct import Struct

import msgspec

from rayflow.analytics.analyst.question import Answer, Column, Question
from rayflow.errors import ErrorInfo, from_info

MAX_HEAD_BYTES = 1 << 20

_LENGTH = Struct("<I")


class Task(msgspec.Struct, frozen=True):
    """`time_s`: what is left of the question's time. `verify`: read all of the log first, to leave out what is
    damaged."""

    question: Question
    time_s: float
    verify: bool = False


class Reply(msgspec.Struct, frozen=True):
    """The facts of an `Answer` whose body of `size` bytes follows, or an error and no body."""

    columns: list[Column] = []
    rows: int = 0
    truncated: bool = False
    unreadable: dict[str, str] = {}
    size: int = 0
    error: ErrorInfo | None = None


def framed(head: msgspec.Struct) -> bytes:
    data = msgspec.json.encode(head)
    return _LENGTH.pack(len(data)) + data


def receive_task(source: socket.socket) -> Task:
    """In the process that works."""
    with source.makefile("rb") as file:
        (size,) = _LENGTH.unpack(file.read(_LENGTH.size))
        return msgspec.json.decode(file.read(size), type=Task)


async def read_answer(reader: asyncio.StreamReader, question: Question) -> Answer:
    """In the process that asks. Raises what the reply says went wrong, and `IncompleteReadError` or `ValueError` where
    the other side died, or does not keep to the rules."""
    (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if size > MAX_HEAD_BYTES:
        raise ValueError("the head of a reply is too large")
    reply = msgspec.json.decode(await reader.readexactly(size), type=Reply)
    if reply.error is not None:
        raise from_info(reply.error)
    if not 0 <= reply.size <= question.limits.answer_bytes:
        raise ValueError("the body of a reply is too large")
    body = await reader.readexactly(reply.size)
    return Answer(reply.columns, reply.rows, body, reply.truncated, reply.unreadable)
