"""A streamed answer while it grows: cut into tokens of a stream, which are numbered and go to all who read along.

The first token leaves at once, later ones are collected for a few milliseconds, because a frame per token would cost
more than the token. Readers that do not keep up slow the reading of the model's answer down, until one of them is back.
What was cut is kept until the answer is whole, so that whoever comes later gets the very same tokens from the first one
on. Whatever a client did not get of it, it gets with the result of the run.
"""

from __future__ import annotations

import asyncio

from rayflow.chat import FinishReason, FunctionCall, ToolCall, ToolCallDelta, Usage
from rayflow.clock import Clock
from rayflow.config.schema import StreamingConfig
from rayflow.messages import AgentCall, Follower, Replay, Token, TokenStream
from rayflow.runtime.ports import Fabric, Outlet

MAX_BEHIND_CHARS = 16 << 10
"""How much of an answer may wait for clients that read slowly, until the model waits, too."""


class Reader:
    """Somebody who gets the tokens, from number `begin` of them on."""

    __slots__ = ("_next", "outlet")

    def __init__(self, outlet: Outlet, begin: int) -> None:
        self.outlet = outlet
        self._next = begin

    def pump(self, tokens: list[Token]) -> bool:
        """Send what there is. Whether it has all now."""
        while self._next < len(tokens) and self.outlet.offer(tokens[self._next]):
            self._next += 1
        return self._next == len(tokens)


class Answer:
    """`call`: who asked for it, and how its tokens are numbered."""

    def __init__(self, call: AgentCall, model: str, streaming: StreamingConfig, fabric: Fabric, clock: Clock) -> None:
        self.key = call.run_id, call.agent
        self.model = model
        self.response_id = ""
        self.finish_reason: FinishReason | None = None
        self.usage = Usage()
        self.first_at: float | None = None
        self._call = call
        self._streaming = streaming
        self._fabric = fabric
        self._clock = clock
        self._readers: list[Reader] = []
        self._kept_up = True
        """Whether somebody has all that was cut, or nobody reads any more."""
        self._tokens: list[Token] = []
        self._pieces: list[str] = []
        self._unsent: list[str] = []
        self._unsent_chars = 0
        self._timer: asyncio.TimerHandle | None = None
        self._deltas: dict[int, list[ToolCallDelta]] = {}

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def pieces(self) -> int:
        """How many have come from the model."""
        return len(self._pieces)

    @property
    def sent(self) -> int:
        """How many tokens have been cut."""
        return len(self._tokens)

    @property
    def last_seq(self) -> int:
        return self._tokens[-1].seq if self._tokens else 0

    def cuts(self) -> list[int]:
        """How many characters each token has."""
        return [sum(map(len, token.pieces)) for token in self._tokens]

    def add(self, pieces: tuple[str, ...]) -> None:
        self._pieces += pieces
        self._unsent += pieces
        self._unsent_chars += sum(map(len, pieces))
        if self.first_at is None:
            self.first_at = self._clock.now()
            self.flush()
        elif self._unsent_chars >= self._streaming.max_chars:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._streaming.flush_s, self.flush)

    def add_tool_call(self, delta: ToolCallDelta) -> None:
        self._deltas.setdefault(delta.index, []).append(delta)

    def flush(self) -> None:
        """Send what there is, if anybody keeps up."""
        self._stop_timer()
        if not self._unsent:
            return
        if not self._kept_up:
            self._pump()
        if self._kept_up:
            self._cut()

    def follow(self, by: Follower) -> None:
        """One reader more; what it has missed comes in one piece."""
        self._fabric.tell(by.client, Replay(by.reader, self._tokens.copy()))
        self._readers.append(self._reader(by, begin=len(self._tokens)))

    @property
    def behind(self) -> bool:
        """Whether all readers are so slow that they must be waited for."""
        return self._unsent_chars > MAX_BEHIND_CHARS

    async def catch_up(self) -> None:
        while self.behind:
            waits = [asyncio.ensure_future(reader.outlet.room()) for reader in self._readers]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            self.flush()

    def close(self) -> None:
        """The last tokens, and the end of their stream."""
        self._stop_timer()
        if self._unsent:
            self._cut()
        for reader in self._readers:
            reader.outlet.close()

    def tool_calls(self) -> list[ToolCall]:
        return [
            ToolCall(
                id=next((d.id for d in deltas if d.id), f"call_{self._call.run_id[4:]}_{index}"),
                function=FunctionCall("".join(d.name for d in deltas), "".join(d.arguments for d in deltas)),
            )
            for index, deltas in sorted(self._deltas.items())
        ]

    def _cut(self) -> None:
        call = self._call
        if not self._tokens:
            self._readers += [self._reader(by, begin=0) for by in (Follower(call.client, ""), *call.followers)]
        seq = call.seq_start + len(self._tokens) * call.seq_step
        self._tokens.append(Token(call.run_id, seq, call.agent, self._unsent))
        self._unsent = []
        self._unsent_chars = 0
        self._pump()

    def _pump(self) -> None:
        caught_up = [reader.pump(self._tokens) for reader in self._readers]
        if not all(caught_up):
            self._readers = [reader for reader in self._readers if not reader.outlet.lost]
        self._kept_up = any(caught_up) or not self._readers

    def _reader(self, by: Follower, begin: int) -> Reader:
        opening = TokenStream(self._call.run_id, self._call.agent, self._call.attempt, by.reader)
        return Reader(self._fabric.stream(by.client, opening), begin)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
