"""One connection between two processes, carrying all their messages both ways.

Asks are paired with replies by id; when the connection breaks, every pending ask and stream fails at once with
`PeerLost`, and handlers that work for the lost peer are cancelled, except for messages that survive their caller.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from rayflow.cluster.fabric.blobs import BLOB_BYTES, Blobs, Lending
from rayflow.cluster.fabric.flow import StreamOutlet
from rayflow.cluster.fabric.frames import (
    MAX_FRAME_BYTES,
    Ask,
    Cancel,
    Close,
    Credit,
    End,
    Frame,
    Item,
    Open,
    Reference,
    Reply,
    Splitter,
    Taken,
    Tell,
    encode,
)
from rayflow.cluster.fabric.handshake import HANDSHAKE_BYTES, Handshake
from rayflow.cluster.fabric.mailroom import Mailroom
from rayflow.cluster.fabric.outbound import Outbound
from rayflow.cluster.fabric.pending import RESOLUTION_S, Pending
from rayflow.cluster.fabric.serving import Serving
from rayflow.cluster.fabric.streams import Streams
from rayflow.context import context
from rayflow.errors import DeadlineExceeded, FabricError, FrameInvalid, PeerLost, from_info
from rayflow.messages import Failure, LinkStats, Payload

log = logging.getLogger(__name__)

HANDSHAKE_S = 5.0
CLOSE_S = 1.0
SILENCE = {"TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 5000}
"""A TCP peer that acknowledges nothing, or takes nothing, for five seconds is gone, although nothing said so."""


class Link(asyncio.Protocol):
    """`opened` is called once both sides are proved; `closed` exactly once at the end."""

    def __init__(
        self,
        handshake: Handshake,
        mailroom: Mailroom,
        blobs: Blobs | None,
        opened: Callable[[Link], None],
        closed: Callable[[Link], None],
        peer: str = "",
    ) -> None:
        self.peer = peer
        """The other side's endpoint; unproved until `open`."""
        self.open = False
        self._handshake = handshake
        self._mailroom = mailroom
        self._opened = opened
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._born = self._loop.time()
        self._transport: asyncio.Transport | None = None
        self._splitter = Splitter(HANDSHAKE_BYTES)
        self._out = Outbound(self._overflow)
        self._pending = Pending()
        self._lending = Lending(blobs, self._out.send)
        self._serving = Serving(mailroom, self._out, self._lending)
        self._streams = Streams(mailroom, self._out)
        self._fetching: set[asyncio.Task[None]] = set()
        self._frames_in = 0
        self._bytes_in = 0
        self._lost: str | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._patience = self._loop.call_later(HANDSHAKE_S, self._give_up)
        self._receivers: dict[type[Frame], Callable[[Any], None]] = {
            Tell: self._on_tell,
            Ask: self._serving.on_ask,
            Reply: self._on_reply,
            Cancel: self._serving.on_cancel,
            Taken: self._on_taken,
            Item: self._on_item,
            Open: self._streams.on_open,
            End: self._streams.on_end,
            Credit: self._streams.on_credit,
            Close: self._streams.on_close,
        }

    # --- for the fabric ---

    def tell(self, to: str, message: Payload, epoch: int = 0) -> None:
        if self._lost is None:
            self._out.tell(encode(Tell(to, message, epoch, context.get())))  # type: ignore[arg-type]

    async def ask(self, to: str, message: Payload, timeout_s: float, epoch: int = 0) -> Payload:
        if self._lost is not None:
            raise self._broken(sent=False)
        if timeout_s <= 0:
            raise DeadlineExceeded(f"no time left to ask {to}", address=to)
        number, reply = self._pending.add(to, timeout_s)
        frame = b""
        try:
            if self._out.writable is not None:
                timeout_s = await self._wait_for_room(reply, timeout_s)
            frame = encode(Ask(number, to, message, timeout_s, epoch, context.get()))  # type: ignore[arg-type]
            if len(frame) > BLOB_BYTES and self._lending.on:
                lent, frame = await self._lending.lend(message), b""
                frame = encode(Ask(number, to, lent, timeout_s, epoch, context.get()))
            self._out.send(frame)
            answer = await reply
        except BaseException:
            if self._pending.forget(number) and frame and not self._out.withdraw(frame):
                self._out.overtake(encode(Cancel(number)))
            raise
        if isinstance(answer, Failure):
            raise from_info(answer.error)
        return answer

    def stream(self, to: str, opening: Payload, epoch: int = 0) -> StreamOutlet:
        outlet = self._streams.open(to, opening, epoch)
        if self._lost is not None:
            self._streams.lose(partial(self._broken, sent=False))
        return outlet

    def stats(self) -> LinkStats:
        return LinkStats(
            peer=self.peer,
            age_s=self._loop.time() - self._born,
            frames_in=self._frames_in,
            frames_out=self._out.frames,
            bytes_in=self._bytes_in,
            bytes_out=self._out.bytes,
            asks=len(self._pending),
            serving=len(self._serving),
            streams=len(self._streams),
            queued_bytes=self._out.queued_bytes,
            stalled_s=self._out.stalled_s,
            dropped=self._out.dropped,
        )

    def close(self) -> None:
        """Send what is queued and close; a peer that does not read is waited for only briefly."""
        if self._transport is not None:
            if self.open:
                self._out.finish()
            self._transport.close()
            self._patience.cancel()
            self._patience = self._loop.call_later(CLOSE_S, self.abort, "closed, and the peer did not read")
        else:
            self.lose("closed before it was open")

    def abort(self, reason: str) -> None:
        """Close at once, whatever is queued."""
        if self._transport is not None:
            self._transport.abort()
        self.lose(reason)

    def lose(self, reason: str) -> None:
        """The connection is gone (or never came to be): fail everything that depends on it."""
        if self._lost is not None:
            return
        self._lost = reason
        broken = partial(self._broken, sent=self.open)
        self.open = False
        self._patience.cancel()
        self._pending.fail(broken)
        self._streams.lose(broken)
        self._out.drop()
        self._serving.lose()
        for task in self._fetching:
            task.cancel()
        self._lending.close()
        self.ended.set_result(None)
        self._closed(self)

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._lost is not None:
            self._transport.abort()
            return
        _notice_silence(transport.get_extra_info("socket"))
        self._transport.write(encode(self._handshake.hello))

    def data_received(self, data: bytes) -> None:
        self._bytes_in += len(data)
        try:
            for frame in self._splitter.feed(data):
                self._frames_in += 1
                if self.open:
                    receive = self._receivers.get(type(frame))
                    if receive is None:
                        raise FrameInvalid(f"unexpected {type(frame).__name__}")
                    receive(frame)
                elif self._lost is None:
                    self._greet(frame)
        except FabricError as error:
            log.warning("dropping the connection to %s: %s", self.peer or "an unknown peer", error.message)
            self.abort(error.message)

    def connection_lost(self, error: Exception | None) -> None:
        self.lose(str(error) if error else "connection closed")

    def pause_writing(self) -> None:
        self._out.pause()

    def resume_writing(self) -> None:
        self._out.resume()

    # --- the beginning ---

    def _greet(self, frame: Frame) -> None:
        assert self._transport is not None
        answer = self._handshake.receive(frame)
        if answer is not None:
            self._transport.write(encode(answer))
        if self._handshake.done:
            self._establish()

    def _establish(self) -> None:
        assert self._transport is not None
        peer = self._handshake.peer
        self.peer, self.open = peer.endpoint, True
        self._patience.cancel()
        self._splitter.limit = MAX_FRAME_BYTES
        self._lending.agree(peer.blobs)
        self._opened(self)
        self._out.open(self._transport)

    def _give_up(self) -> None:
        self.abort(f"no handshake within {HANDSHAKE_S:g} s")

    # --- messages ---

    def _on_tell(self, frame: Tell) -> None:
        self._mailroom.tell(frame.to, frame.body, frame.epoch, frame.context)

    def _on_reply(self, frame: Reply) -> None:
        if isinstance(frame.body, Reference):
            task = self._loop.create_task(self._fetch(frame.id, frame.body))
            self._fetching.add(task)
            task.add_done_callback(self._fetching.discard)
        else:
            self._pending.answer(frame.id, frame.body)

    async def _fetch(self, number: int, reference: Reference) -> None:
        self._pending.answer(number, await self._lending.fetch(reference))

    def _on_taken(self, frame: Taken) -> None:
        self._lending.taken(frame.name)

    def _on_item(self, frame: Item) -> None:
        self._streams.on_item(frame, self._splitter.size)

    async def _wait_for_room(self, reply: asyncio.Future[Payload], timeout_s: float) -> float:
        """Until the peer keeps up again. Returns what is left of the time; raises as the reply does."""
        began = self._loop.time()
        while (writable := self._out.writable) is not None and not reply.done():
            await asyncio.wait((writable, reply), return_when=asyncio.FIRST_COMPLETED)
        if reply.done():
            reply.result()
        return max(timeout_s - (self._loop.time() - began), RESOLUTION_S)

    # --- the end ---

    def _overflow(self) -> None:
        self.abort("the peer does not read")

    def _broken(self, sent: bool) -> PeerLost:
        """`sent`: whether the peer may have seen what this is the answer to."""
        return PeerLost(
            f"lost the connection to {self.peer or 'a process of the system'}: {self._lost}", peer=self.peer, sent=sent
        )


def _notice_silence(sock: socket.socket | None) -> None:
    """Let the system find out when a TCP peer vanishes without a word; a unix socket's peer cannot."""
    if sock is None or sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in SILENCE.items():
        if (option := getattr(socket, name, None)) is not None:  # not every system has every one
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
