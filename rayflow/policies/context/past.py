"""What is known of a session's turns: the messages, their tokens, and what was made of them to find and summarise.

It is derived from the history and can be made again from it at any time. It only grows: a session whose turns were
taken back is read anew.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from rayflow.chat import Message
from rayflow.language.sentences import Sentence, sentences
from rayflow.messages import Turn
from rayflow.policies.context.search import Hit, Index
from rayflow.policies.context.summary import CHUNK, Said, Summary, digest, summarise
from rayflow.policies.context.tokens import Count, estimate, message_tokens
from rayflow.policies.context.topics import Topic, Topics

STEP_CHARS = 2000
"""Text that is analysed at once: about two milliseconds. Between two steps others may work."""
MAX_CHARS = 20_000
"""Of one message, so much is searched and summarised."""
INSTRUCTIONS = ("system", "developer")
"""Roles whose messages are never left out of a context."""


class Entry(NamedTuple):
    """A turn of the past. `created_us` is 0 where it is not known."""

    seq: int
    message: Message
    tokens: int
    created_us: int


class Past:
    """The turns of a session from `since` on, which is the beginning of a chunk. `learn` takes them in; what they say
    costs ten times as much to see, so `search` and `summary` have only what was analysed until then. `searched`: False
    where nothing will be."""

    def __init__(self, since: int = 1, count: Count = estimate, *, searched: bool = True) -> None:
        assert since % CHUNK == 1, "the past begins with a chunk"
        self.since = since
        self.entries: list[Entry] = []
        self.instructions: list[Entry] = []
        """Those of the entries that are a system's, not the user's or the assistant's."""
        self._count = count
        self._searched = searched
        self._index = Index()
        self._digests: dict[int, tuple[Said, ...]] = {}
        self._chunk: list[tuple[int, str, tuple[Sentence, ...]]] = []
        self._analysed = 0
        self._summary: Summary | None = None
        """The last one: mostly it is the next one, too."""
        self._ends: list[int] = []
        """Tokens up to and with the entry at this place."""

    @property
    def last(self) -> int:
        """Number of the newest turn that is known."""
        return self.entries[-1].seq if self.entries else self.since - 1

    @property
    def tokens(self) -> int:
        """Of all entries."""
        return self._ends[-1] if self._ends else 0

    def topics(self) -> list[Topic]:
        """What the user talked about, in order."""
        topics = Topics()
        for entry in self.entries:
            if entry.message.role == "user":
                topics.add(entry.seq, entry.message.text)
        return topics.all

    def learn(self, turns: Iterable[Turn]) -> Iterator[None]:
        """Take in further turns; those that are known are passed over. To be run to its end before anything is asked.
        It yields after every turn, so that a loop can do other things."""
        for turn in turns:
            if turn.seq <= self.last:
                continue
            message = turn.message
            entry = Entry(turn.seq, message, message_tokens(message, self._count), turn.created_us)
            self._ends.append(self.tokens + entry.tokens)
            self.entries.append(entry)
            if message.role in INSTRUCTIONS:
                self.instructions.append(entry)
            yield

    def analyse(self) -> Iterator[None]:
        """See what the turns say that were learnt since the last time. Also to be run to its end; it yields after every
        `STEP_CHARS` of text or fewer."""
        while self._analysed < len(self.entries):
            seq, message, _, _ = self.entries[self._analysed]
            parts = tuple[Sentence, ...]()
            if message.role in ("user", "assistant") and not message.tool_calls:
                for text in _steps(message.text[:MAX_CHARS]):
                    parts += sentences(text)
                    yield
                if self._searched:
                    self._index.add(seq, message.role, parts)
            self._chunk.append((seq, message.role, parts))
            if seq % CHUNK == 0:
                self._digests[seq // CHUNK] = digest(self._chunk)
                self._chunk = []
                yield
            self._analysed += 1

    def place(self, seq: int) -> int:
        """Where the first entry of at least this number stands."""
        place = seq - self.since  # where none is missing
        if 0 <= place < len(self.entries) and self.entries[place].seq == seq:
            return place
        return bisect_left(self.entries, seq, key=lambda entry: entry.seq)

    def entry(self, seq: int) -> Entry | None:
        place = self.place(seq)
        return self.entries[place] if place < len(self.entries) and self.entries[place].seq == seq else None

    def tokens_until(self, seq: int) -> int:
        """Tokens of the turns before number `seq`."""
        place = self.place(seq)
        return self._ends[place - 1] if place else 0

    def search(
        self,
        query: str,
        top_k: int,
        since: int = 0,
        until: int | None = None,
        meaning: Mapping[int, float] | None = None,
        weight: float = 0.0,
    ) -> list[Hit]:
        """As `Index.search`."""
        return self._index.search(query, top_k, since, until, meaning, weight)

    def summary(self, since: int, upto: int, limit: int) -> Summary:
        """As `summarise`."""
        last = self._summary
        if last is None or (last.since, last.upto) != (since, upto) or not last.least <= limit <= last.most:
            last = self._summary = summarise(self._digests, since, upto, limit, self._count)
        return last


def _steps(text: str) -> Iterator[str]:
    """`text` in parts of at most `STEP_CHARS`, divided at white space where there is some."""
    start = 0
    while len(text) - start > STEP_CHARS:
        end = start + STEP_CHARS
        blank = max(text.rfind(mark, start, end) for mark in (". ", "\n", " "))
        end = blank + 1 if blank > start else end
        yield text[start:end]
        start = end
    yield text[start:]
