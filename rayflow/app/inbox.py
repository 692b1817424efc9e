"""What a client has received of one streamed run, and not read yet.

The tokens of an answer come on a stream from one attempt of one replica. When that replica or the router died, another
attempt may follow only where nothing of the first was read yet; then the first is void, and its stream closed.

Tokens wait in their streams until the client reads: while it does not, it gives no credit, and the replica stops.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from rayflow.errors import PeerLost
from rayflow.messages import Progress, RunResult, Token, TokenStream
from rayflow.messages.runs import PART_ATTEMPTS
from rayflow.runtime.ports import Inlet

StreamItem = Token | Progress | RunResult


class Inbox:
    """`attempt`: how often the run was asked for before, as in `RunRequest`."""

    __slots__ = ("_floor", "_inlets", "_outcome", "_progress", "_read", "_readable", "_voided")

    def __init__(self, attempt: int) -> None:
        self._floor = attempt * PART_ATTEMPTS
        self._voided: dict[str, int] = {}
        """Last void attempt by agent."""
        self._inlets: dict[str, Inlet] = {}
        self._read: dict[str, int] = {}
        """How many messages of an agent's tokens were read."""
        self._progress: deque[Progress] = deque()
        self._outcome: RunResult | BaseException | None = None
        self._readable: asyncio.Future[None] | None = None

    # --- for the reader ---

    async def read(self) -> list[StreamItem]:
        """All that is there, at least one item; the result is the very last. Raises what ended the run instead."""
        while True:
            items = self._collect()
            if isinstance(self._outcome, RunResult):
                items.append(self._outcome)
            elif self._outcome is not None and not items:
                raise self._outcome
            if items:
                return items
            self._readable = asyncio.get_running_loop().create_future()
            await self._readable

    def close(self) -> None:
        """Read no more."""
        for inlet in self._inlets.values():
            inlet.close()
        self._inlets.clear()

    # --- for who sends ---

    def progress(self, progress: Progress) -> None:
        self._progress.append(progress)
        self._wake()

    def stream(self, opening: TokenStream, inlet: Inlet) -> None:
        """A part's tokens begin."""
        if opening.attempt <= self._voided.get(opening.agent, self._floor):
            inlet.close()
            return
        self._inlets[opening.agent] = inlet
        inlet.on_readable(self._wake)

    def end(self, outcome: RunResult | BaseException) -> None:
        self._outcome = outcome
        self._wake()

    # --- for who tries again ---

    def void(self, agent: str, attempt: int) -> int:
        """Take no more of this attempt, unless some of the agent's tokens were read: returns of how many messages."""
        read = self._read.get(agent, 0)
        if not read:
            self._voided[agent] = attempt
            if inlet := self._inlets.pop(agent, None):
                inlet.close()
        return read

    def restart(self, attempt: int) -> bool:
        """The run is asked for again: take only what comes of that. False where tokens were read already."""
        if self._read:
            return False
        self._floor = attempt * PART_ATTEMPTS
        self._voided.clear()
        self.close()
        return True

    def _collect(self) -> list[StreamItem]:
        items: list[Any] = []
        for agent, inlet in list(self._inlets.items()):
            try:
                tokens = inlet.take()
            except PeerLost:
                # What becomes of the run, the router will say.
                del self._inlets[agent]
                continue
            if tokens:
                self._read[agent] = self._read.get(agent, 0) + len(tokens)
                items += tokens
            if inlet.ended:
                del self._inlets[agent]
        if self._progress:
            items += self._progress
            self._progress.clear()
            items.sort(key=_number)
        return items

    def _wake(self) -> None:
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)


def _number(item: Token | Progress) -> int:
    return item.seq if isinstance(item, Token) else item.event.seq
