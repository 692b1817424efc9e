"""What a client has received of one streamed run and not read yet, and what it has read.

The tokens of an answer come on a stream from one attempt of one replica. When that replica or the router died, another
attempt may follow only where nothing of the first was read yet; then the first is void, and its stream closed.

Tokens wait in their streams until the client reads: while it does not, it gives no credit, and the replica stops. The
end of an agent's part is told after all its tokens, though it comes another way.
"""

from __future__ import annotations

import asyncio
from collections import deque

from rayflow.errors import PeerLost
from rayflow.messages import Progress, Replay, RunResult, Token, TokenStream, Voided
from rayflow.messages.runs import PART_ATTEMPTS
from rayflow.runtime.ports import Inlet

StreamItem = Token | Progress | RunResult


class Inbox:
    """`attempt`: how often the run was asked for before, as in `RunRequest`. `router`: who was asked for it last."""

    __slots__ = (
        "_closed", "_floor", "_inlets", "_new", "_outcome", "_progress", "_read", "_readable", "_voided", "router",
    )  # fmt: skip

    def __init__(self, attempt: int) -> None:
        self.router = ""
        self._floor = attempt * PART_ATTEMPTS
        self._voided: dict[str, int] = {}
        """Last void attempt by agent."""
        self._inlets: dict[str, Inlet] = {}
        self._read: dict[str, list[Token]] = {}
        """Those of an agent's tokens that were read."""
        self._progress: deque[Progress] = deque()
        self._outcome: RunResult | BaseException | None = None
        self._readable: asyncio.Future[None] | None = None
        self._new = False
        """Whether anything has come since it was last looked for."""
        self._closed = False

    # --- for the reader ---

    async def read(self) -> list[StreamItem]:
        """All that is there, at least one item; the result is the very last. Raises what ended the run instead."""
        while True:
            if self._new or self._outcome is not None:
                self._new = False
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
        self._closed = True
        self._drop_inlets()

    # --- for who sends ---

    def progress(self, progress: Progress) -> None:
        self._progress.append(progress)
        self._wake()

    def stream(self, opening: TokenStream, inlet: Inlet) -> None:
        """A part's tokens begin."""
        if self._closed or opening.attempt <= self._voided.get(opening.agent, self._floor):
            inlet.close()
            return
        self._inlets[opening.agent] = inlet
        inlet.on_readable(self._wake)

    def end(self, outcome: RunResult | BaseException) -> None:
        self._outcome = outcome
        self._wake()

    # --- for who tries again ---

    def void(self, agent: str, attempt: int) -> Voided:
        """Take no more of this attempt, unless some of the agent's tokens were read: says which."""
        read = self._read.get(agent, [])
        if not read:
            self._voided[agent] = attempt
            if inlet := self._inlets.pop(agent, None):
                inlet.close()
        return Voided(len(read), "".join(token.text for token in read))

    def restart(self, attempt: int) -> bool:
        """The run is asked for again: take only what comes of that. False where tokens were read already."""
        if self._read:
            return False
        self._floor = attempt * PART_ATTEMPTS
        self._voided.clear()
        self._drop_inlets()
        return True

    def _drop_inlets(self) -> None:
        for inlet in self._inlets.values():
            inlet.close()
        self._inlets.clear()

    def _collect(self) -> list[StreamItem]:
        items: list[StreamItem] = []
        for agent, inlet in list(self._inlets.items()):
            try:
                tokens = inlet.take()
            except PeerLost:
                # What becomes of the run, the router will say.
                del self._inlets[agent]
                continue
            if tokens:
                self._read.setdefault(agent, []).extend(tokens)
                items += tokens
            if inlet.ended:
                del self._inlets[agent]
        if self._progress:
            items += self._due()
            items.sort(key=_number)
        return items

    def _due(self) -> list[Progress]:
        """The progress that may be told now."""
        due = [p for p in self._progress if self._outcome is not None or self._told(p)]
        self._progress = deque(p for p in self._progress if p not in due) if len(due) < len(self._progress) else deque()
        return due

    def _told(self, progress: Progress) -> bool:
        """Whether all tokens that come before it were read."""
        event = progress.event
        if event.kind != "agent.finished":
            return True
        chunks: int = event.data.get("chunks", 0)
        return len(self._read.get(event.agent, ())) >= chunks

    def _wake(self) -> None:
        self._new = True
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)


class FollowingInbox(Inbox):
    """Of a run that is read along: the same item may come twice, in a `Replay` and on its stream."""

    __slots__ = ("_last", "_replayed")

    def __init__(self) -> None:
        super().__init__(attempt=0)
        self._replayed: list[Token] = []
        self._last: dict[str, int] = {}
        """Number of the last token that was read, by agent; of the last event, under ""."""

    def replay(self, replay: Replay) -> None:
        self._replayed += replay.tokens
        for event in replay.events:
            if event.seq > self._last.get("", 0):
                self._last[""] = event.seq
                self._progress.append(Progress(event))
        self._wake()

    def _collect(self) -> list[StreamItem]:
        replayed, self._replayed = self._replayed, []
        for token in replayed:
            self._read.setdefault(token.agent, []).append(token)
        items: list[StreamItem] = [*replayed, *super()._collect()]
        items.sort(key=_number)
        return [item for item in items if not isinstance(item, Token) or self._first_time(item)]

    def _first_time(self, token: Token) -> bool:
        new = token.seq > self._last.get(token.agent, 0)
        if new:
            self._last[token.agent] = token.seq
        return new


def _number(item: StreamItem) -> int:
    match item:
        case Token():
            return item.seq
        case Progress():
            return item.event.seq
        case _:
            return item.last_seq
