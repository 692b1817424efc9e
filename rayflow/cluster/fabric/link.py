"""One connection between two processes, carrying all their messages both ways.

Writes of one event-loop tick leave in one system call. Asks are paired with replies by id; when the connection breaks,
every pending ask fails at once with `PeerLost`, and handlers that work for the lost peer are cancelled, except for
messages that survive their caller.

Handshake: both sides say hello with a nonce; the dialler proves first that it knows the cluster secret, then the
listener. A proof is an HMAC over the prover's role and both nonces, so it can neither be replayed nor reflected.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections.abc import Callable
from typing import Any, Literal, cast

from rayflow.cluster.fabric.frames import MAX_FRAME_BYTES, PROTOCOL_VERSION, Frame, Kind, Splitter, encode
from rayflow.cluster.fabric.mailroom import Mailroom
from rayflow.errors import Cancelled, DeadlineExceeded, FabricError, FrameInvalid, PeerLost, from_info
from rayflow.messages import Failure, Payload

log = logging.getLogger(__name__)

HANDSHAKE_BYTES = 1024
HANDSHAKE_S = 5.0
CLOSE_S = 1.0
GAVE_UP = Cancelled("the work was cancelled where it was done")
MAX_UNSENT_BYTES = 64 << 20
"""A peer that lets this much pile up is not reading: the connection is dropped rather than memory filled."""

Role = Literal["dial", "listen"]


class Link(asyncio.Protocol):
    """`own`: our listening endpoint, told to the peer so that it can answer over this very connection.

    `opened` is called with the peer's endpoint once both sides are proved; `closed` exactly once at the end.
    """

    def __init__(
        self,
        role: Role,
        own: str,
        secret: bytes,
        mailroom: Mailroom,
        opened: Callable[[Link], None],
        closed: Callable[[Link], None],
    ) -> None:
        self.peer = ""
        self.open = False
        self._was_open = False
        self._role = role
        self._own = own
        self._secret = secret
        self._mailroom = mailroom
        self._opened = opened
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._splitter = Splitter(HANDSHAKE_BYTES)
        self._nonce = secrets.token_hex(16)
        self._peer_nonce = ""
        self._told = ""
        self._out: list[bytes] = []
        self._flushing = False
        self._writable: asyncio.Future[None] | None = None
        self._next_id = 0
        self._asks: dict[int, asyncio.Future[Payload]] = {}
        self._serving: dict[int, asyncio.Task[Payload]] = {}
        self._survivors: set[int] = set()
        self._lost: str | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._patience = self._loop.call_later(HANDSHAKE_S, self._give_up)

    # --- for the fabric ---

    def tell(self, to: str, message: Payload) -> None:
        self._send(Frame(Kind.TELL, 0, to, message))  # type: ignore[arg-type]

    async def ask(self, to: str, message: Payload, timeout_s: float) -> Payload:
        if self._lost is not None:
            raise self._broken(sent=False)
        if timeout_s <= 0:
            raise DeadlineExceeded(f"no time left to ask {to}", address=to)
        self._next_id += 1
        number = self._next_id
        reply: asyncio.Future[Payload] = self._loop.create_future()
        self._asks[number] = reply
        timer = self._loop.call_later(timeout_s, self._expire, number, to, timeout_s)
        try:
            while self._writable is not None and not reply.done():
                either: set[asyncio.Future[Any]] = {self._writable, reply}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            self._send(Frame(Kind.ASK, number, to, message, timeout_s))  # type: ignore[arg-type]
            answer = await reply
        except BaseException:
            if self._asks.pop(number, None) is not None and self._lost is None:
                self._send(Frame(Kind.CANCEL, number))
            raise
        finally:
            timer.cancel()
        if isinstance(answer, Failure):
            raise from_info(answer.error)
        return answer

    def close(self) -> None:
        """Send what is queued and close; a peer that does not read is waited for only briefly."""
        self._flush()
        if self._transport is not None:
            self._transport.close()
            self._patience.cancel()
            self._patience = self._loop.call_later(CLOSE_S, self._abort, "closed, and the peer did not read")
        else:
            self.lose("closed before it was open")

    def lose(self, reason: str) -> None:
        """The connection is gone (or never came to be): fail everything that depends on it."""
        if self._lost is not None:
            return
        self._lost = reason
        self.open = False
        self._patience.cancel()
        self.resume_writing()
        for reply in self._asks.values():
            if not reply.done():
                reply.set_exception(self._broken(sent=self._was_open))
        for number, task in self._serving.items():
            if number not in self._survivors:
                task.cancel()
        self.ended.set_result(None)
        self._closed(self)

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._lost is not None:
            self._transport.abort()
            return
        hello = Frame(Kind.HELLO, text=(str(PROTOCOL_VERSION), self._own, self._nonce))
        self._transport.write(encode(hello))

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._splitter.feed(data):
                if self.open:
                    self._receive(frame)
                else:
                    self._greet(frame)
        except FabricError as error:
            log.warning("dropping the connection to %s: %s", self.peer or "an unknown peer", error.message)
            self._abort(error.message)

    def connection_lost(self, error: Exception | None) -> None:
        self.lose(str(error) if error else "connection closed")

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None

    # --- handshake ---

    def _greet(self, frame: Frame) -> None:
        if frame.kind == Kind.HELLO and not self._peer_nonce:
            version, self._told, self._peer_nonce = (*frame.text, "", "", "")[:3]
            if version != str(PROTOCOL_VERSION) or not self._peer_nonce:
                raise FrameInvalid(
                    f"peer speaks protocol {version!r}, this process {PROTOCOL_VERSION}: run one rayflow version"
                )
            if self._role == "dial":
                self._prove()
            else:
                self.peer = self._told
        elif frame.kind == Kind.PROOF and self._peer_nonce:
            theirs: Role = "listen" if self._role == "dial" else "dial"
            expected = self._mac(theirs, self._peer_nonce, self._nonce, self._told)
            if not frame.text or not hmac.compare_digest(frame.text[0].encode(), expected.encode()):
                raise FrameInvalid("peer does not know the cluster secret")
            if self._role == "listen":
                self._prove()
            self._establish()
        else:
            raise FrameInvalid("message before the handshake was done")

    def _prove(self) -> None:
        assert self._transport is not None
        proof = self._mac(self._role, self._nonce, self._peer_nonce, self._own)
        self._transport.write(encode(Frame(Kind.PROOF, text=(proof,))))

    def _mac(self, role: Role, own_nonce: str, other_nonce: str, endpoint: str) -> str:
        text = "\n".join(("rayflow", role, own_nonce, other_nonce, endpoint)).encode()
        return hmac.digest(self._secret, text, "sha256").hex()

    def _establish(self) -> None:
        self.open = self._was_open = True
        self._patience.cancel()
        self._splitter.limit = MAX_FRAME_BYTES
        self._opened(self)
        self._flush()

    def _give_up(self) -> None:
        self._abort(f"no handshake within {HANDSHAKE_S:g} s")

    # --- messages ---

    def _receive(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.TELL if frame.body is not None:
                self._mailroom.tell(frame.to, frame.body)
            case Kind.ASK if frame.body is not None:
                self._serve(frame.id, frame.to, frame.body, frame.timeout_s)
            case Kind.REPLY if frame.body is not None:
                reply = self._asks.pop(frame.id, None)
                if reply is not None and not reply.done():
                    reply.set_result(frame.body)
            case Kind.CANCEL:
                if task := self._serving.pop(frame.id, None):
                    task.cancel()
            case _:
                raise FrameInvalid(f"unexpected frame of kind {frame.kind}")

    def _serve(self, number: int, to: str, message: Payload, timeout_s: float) -> None:
        result = self._mailroom.call(to, message, timeout_s)
        if isinstance(result, asyncio.Task):
            self._serving[number] = result
            if message.survives_caller:
                self._survivors.add(number)
            result.add_done_callback(lambda task: self._served(number, task))
        else:
            self._reply(number, result)

    def _served(self, number: int, task: asyncio.Task[Payload]) -> None:
        self._survivors.discard(number)
        if self._serving.pop(number, None) is None:
            return  # the asker cancelled it and waits no more
        self._reply(number, Failure(GAVE_UP.to_info()) if task.cancelled() else task.result())

    def _reply(self, number: int, message: Payload) -> None:
        try:
            self._send(Frame(Kind.REPLY, number, body=message))  # type: ignore[arg-type]
        except FrameInvalid as error:
            self._send(Frame(Kind.REPLY, number, body=Failure(error.to_info())))

    def _expire(self, number: int, to: str, timeout_s: float) -> None:
        reply = self._asks.get(number)
        if reply is not None and not reply.done():
            reply.set_exception(DeadlineExceeded(f"{to} did not answer within {timeout_s:.3g} s", address=to))

    # --- bytes ---

    def _send(self, frame: Frame) -> None:
        if self._lost is not None:
            return
        self._out.append(encode(frame))
        if self.open and not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if not self._out or self._transport is None or not self.open:
            return
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self._abort("the peer does not read")

    def _abort(self, reason: str) -> None:
        if self._transport is not None:
            self._transport.abort()
        self.lose(reason)

    def _broken(self, sent: bool) -> PeerLost:
        """`sent`: whether the peer may have seen the question this is the answer to."""
        return PeerLost(
            f"lost the connection to {self.peer or 'a process of the system'}: {self._lost}", peer=self.peer
        )
