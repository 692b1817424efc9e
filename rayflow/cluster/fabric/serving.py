"""Asks of the peer that this process works on.

Who waits no more (a cancellation, a broken connection) has the work cancelled, except where the message says that it
survives its caller.
"""

from __future__ import annotations

import asyncio
from typing import Any

from rayflow.cluster.fabric.blobs import BLOB_BYTES, Lending
from rayflow.cluster.fabric.frames import Ask, Cancel, Reference, Reply, encode
from rayflow.cluster.fabric.mailroom import Mailroom, gave_up
from rayflow.cluster.fabric.outbound import Outbound
from rayflow.errors import FrameInvalid
from rayflow.messages import Failure, Payload


class Serving:
    def __init__(self, mailroom: Mailroom, outbound: Outbound, lending: Lending) -> None:
        self._call = mailroom.call
        self._send = outbound.send
        self._lending = lending
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[int, asyncio.Task[Any]] = {}
        self._survivors: set[int] = set()
        self._replies: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def on_ask(self, ask: Ask) -> None:
        number, message = ask.id, ask.body
        if isinstance(message, Reference):
            self._tasks[number] = self._loop.create_task(self._fetch(ask, message))
            return
        result = self._call(ask.to, message, ask.timeout_s, ask.epoch, ask.context)
        if isinstance(result, asyncio.Task):
            self._tasks[number] = result
            if message.survives_caller:
                self._survivors.add(number)
            result.add_done_callback(lambda task: self._done(number, task))
        else:
            self._reply(number, result)

    def on_cancel(self, cancel: Cancel) -> None:
        if task := self._tasks.pop(cancel.id, None):
            task.cancel()

    def lose(self) -> None:
        """The connection is gone."""
        for number, task in self._tasks.items():
            if number not in self._survivors:
                task.cancel()
        for reply in self._replies:
            reply.cancel()

    def _done(self, number: int, task: asyncio.Task[Payload]) -> None:
        self._survivors.discard(number)
        if self._tasks.pop(number, None) is not None:  # else the asker cancelled it and waits no more
            self._reply(number, Failure(gave_up().to_info()) if task.cancelled() else task.result())

    def _reply(self, number: int, message: Payload) -> None:
        try:
            frame = encode(Reply(number, message))  # type: ignore[arg-type]
        except FrameInvalid as error:
            frame = encode(Reply(number, Failure(error.to_info())))
        if len(frame) > BLOB_BYTES and self._lending.on:
            task = self._loop.create_task(self._lend(number, message))
            self._replies.add(task)
            task.add_done_callback(self._replies.discard)
        else:
            self._send(frame)

    async def _lend(self, number: int, message: Payload) -> None:
        self._send(encode(Reply(number, await self._lending.lend(message))))

    async def _fetch(self, ask: Ask, reference: Reference) -> None:
        """The message of this ask lies in the blob store."""
        began = self._loop.time()
        message = await self._lending.fetch(reference)
        if self._tasks.pop(ask.id, None) is None:
            return
        if isinstance(message, Failure):
            self._reply(ask.id, message)
            return
        left_s = max(ask.timeout_s - (self._loop.time() - began), 0.001)
        self.on_ask(Ask(ask.id, ask.to, message, left_s, ask.epoch, ask.context))  # type: ignore[arg-type]
