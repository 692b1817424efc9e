"""From a session's past and a new message to what a model gets.

The budget is spent in this order: what is new, whole; what is pinned; the call that a new tool result answers; the
sources; up to a quarter of what is left for what is remembered of the user; then the window. Where that holds the whole
past, that is all. Where it does not, up to a quarter of what was left goes to a summary of the rest, up to a quarter to
those of its messages that the new one asks about, and the window takes what remains. So whatever fits before the first
three is within the budget, and those are never cut.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from rayflow.chat import Message
from rayflow.config.schema import ContextConfig
from rayflow.policies.context.facts import NO_FACTS, Facts
from rayflow.policies.context.past import INSTRUCTIONS, MAX_CHARS, Entry, Past
from rayflow.policies.context.pieces import Context, Inclusion, Piece, Reason, pieces_of
from rayflow.policies.context.search import excerpt
from rayflow.policies.context.summary import CHUNK
from rayflow.policies.context.tokens import PER_MESSAGE, Count, cut, estimate, message_tokens
from rayflow.policies.context.window import Fitted, fit, units

MIN_COVERAGE = 0.35
"""Share of a question's weight that a message must hold to be about it."""
MIN_SCORE = 0.35
"""A message must be as relevant as this share of the most relevant one."""
MAX_QUERY_CHARS = 2000
SOURCE_SHARE = 8
"""The part of what is left that each source may take at most: an eighth."""
SHARE = 4
"""The same of the summary and of what is relevant: a quarter each."""


def assemble(
    past: Past,
    new: Sequence[Message],
    config: ContextConfig,
    now_us: int,
    facts: Facts = NO_FACTS,
    state: str = "",
    external: Sequence[tuple[str, str]] = (),
    count: Count = estimate,
    meaning: Meaning | None = None,
    memories: Sequence[tuple[str, str]] = (),
) -> Context:
    """What a model gets for `new`, which follows upon `past`. `state`: the line of system_state. `external`: name and
    text of further sources. `count` must be the one that `past` counts with. `meaning`: of the turns, where vectors are
    configured. `memories`: text of each, the best first, and why it is one."""
    return _Assembly(past, new, config, now_us, count, meaning).context(facts, state, external, memories)


def asked(new: Sequence[Message]) -> str:
    """What is searched for in the past."""
    return next((message.text for message in reversed(new) if message.role == "user"), "")[:MAX_QUERY_CHARS]


def weighs(past: Past, config: ContextConfig) -> bool:
    """Whether `assemble` looks at what the turns say; then `past` must have been analysed."""
    return config.retrieval > 0 or (config.compression and past.tokens > config.compression_threshold)


class Meaning(NamedTuple):
    """How alike turns and what is asked are, by the turns' numbers, and what share of their rank that makes."""

    alike: Mapping[int, float]
    weight: float


class _Assembly:
    def __init__(
        self,
        past: Past,
        new: Sequence[Message],
        config: ContextConfig,
        now_us: int,
        count: Count,
        meaning: Meaning | None,
    ) -> None:
        self._past, self._config, self._count = past, config, count
        self._asked, self._meaning = asked(new), meaning
        self._new = pieces_of(new, (message_tokens(message, count) for message in new))
        self._left = config.max_context_tokens - sum(piece.inclusion.tokens for piece in self._new)
        self._parts: list[Piece] = []
        self._fixed: dict[int, Piece] = {}
        self._first = self._oldest(now_us) if config.remembers else past.last + 1
        """Number of the first turn that may be shown without being pinned."""

    def context(
        self,
        facts: Facts,
        state: str,
        external: Sequence[tuple[str, str]],
        memories: Sequence[tuple[str, str]],
    ) -> Context:
        self._pin(facts)
        self._keep_calls()
        self._sources(facts, state, external)
        self._recall(memories)
        recent, more = self._recent()
        room = max(self._left, 0)
        window = self._fit(recent, room)
        relevant: dict[int, Piece] = {}
        summarised = 0
        if more or (recent and (not window or window[0].entry.seq != recent[0].seq)):
            summary, summarised = self._summary(facts, window, room // SHARE)
            if self._config.retrieval:
                base = self._fit(recent, room - summary - room // SHARE)
                outside = base[0].entry.seq if base else self._past.last + 1
                relevant = self._relevant(outside, room // SHARE)
            taken = summary + sum(piece.inclusion.tokens for piece in relevant.values())
            if taken:
                window = self._fit(recent, room - taken)
        said = relevant | {fitted.entry.seq: _shown(fitted) for fitted in window} | self._fixed
        pieces = (*self._parts, *(said[seq] for seq in sorted(said)), *self._new)
        return Context(pieces, self._config.max_context_tokens, self._left_out(said.keys()), summarised)

    def _recent(self) -> tuple[list[Entry], bool]:
        """The window before anything is weighed, and whether there is more before it."""
        recent: list[Entry] = []
        for entry in reversed(self._past.entries):
            if entry.seq < self._first:
                break
            if entry.seq in self._fixed or entry.message.role in INSTRUCTIONS:
                continue
            if len(recent) == self._config.window:
                return recent[::-1], True
            recent.append(entry)
        return recent[::-1], False

    def _oldest(self, now_us: int) -> int:
        """The first turn that is neither too old nor beyond what is searched."""
        entries = self._past.entries
        reach = max(self._config.search_turns, self._config.window)
        first = max(self._past.last - reach, 0) // CHUNK * CHUNK + 1
        if self._config.max_age_s is not None:
            since_us = now_us - int(self._config.max_age_s * 1e6)
            place = self._past.place(first)
            while place < len(entries) and 0 < entries[place].created_us < since_us:
                place += 1
            first = entries[place].seq if place < len(entries) else self._past.last + 1
        return first

    def _pin(self, facts: Facts) -> None:
        for text in facts.pinned:
            self._part("pinned", f"Keep in mind: {text}", "pinned in the session's metadata")
        for entry in self._past.instructions:
            why = "instructions of the session"
            self._parts.append(Piece(entry.message, Inclusion("pinned", entry.tokens, entry.seq, why)))
            self._left -= entry.tokens
        for seq in sorted(facts.pinned_turns):
            turn = self._past.entry(seq)
            if turn is not None and turn.message.role in ("user", "assistant") and not turn.message.tool_calls:
                self._fix(turn, "pinned", "pinned in the session's metadata")

    def _keep_calls(self) -> None:
        """New tool results need the call that they answer, and the other results of that call."""
        wanted = {piece.message.tool_call_id for piece in self._new if piece.message.role == "tool"}
        if not wanted:
            return
        for unit in reversed(units(self._past.entries)):
            if wanted & {call.id for call in unit[0].message.tool_calls or ()}:
                for entry in unit:
                    self._fix(entry, "call", "a new tool result belongs to it")
                return

    def _fix(self, entry: Entry, reason: Reason, why: str) -> None:
        self._fixed[entry.seq] = Piece(entry.message, Inclusion(reason, entry.tokens, entry.seq, why))
        self._left -= entry.tokens

    def _sources(self, facts: Facts, state: str, external: Sequence[tuple[str, str]]) -> None:
        share, wanted = max(self._left, 0) // SOURCE_SHARE, self._config.sources
        parts: list[tuple[Reason, str, str]] = []
        if facts.preferences and "user_preferences" in wanted:
            lines = "\n".join(f"- {line}" for line in facts.preferences)
            parts.append(("preferences", f"The user's preferences:\n{lines}", "source user_preferences"))
        if facts.session_data and "session_data" in wanted:
            lines = "\n".join(f"- {line}" for line in facts.session_data)
            parts.append(("session_data", f"About this session:\n{lines}", "source session_data"))
        if state and "system_state" in wanted:
            parts.append(("system_state", state, "source system_state"))
        parts += [("external", text, f"source {name}") for name, text in external]
        for reason, text, why in parts:
            if shown := cut(text, share - PER_MESSAGE, self._count):
                self._part(reason, shown, why if shown == text else f"{why}, cut to {share} tokens")

    def _recall(self, memories: Sequence[tuple[str, str]]) -> None:
        """The best memories, whole, as far as there is room for them."""
        limit = max(self._left, 0) // SHARE
        for text, why in memories:
            if cut(text, limit - PER_MESSAGE, self._count) == text:
                limit -= self._part("memory", text, why)

    def _part(self, reason: Reason, text: str, why: str) -> int:
        message = Message("system", text)
        tokens = message_tokens(message, self._count)
        self._parts.append(Piece(message, Inclusion(reason, tokens, 0, why)))
        self._left -= tokens
        return tokens

    def _fit(self, entries: Sequence[Entry], left: int) -> list[Fitted]:
        return fit(entries, max(left, 0), self._config.tool_result_tokens, self._count)

    def _summary(self, facts: Facts, window: Sequence[Fitted], limit: int) -> tuple[int, int]:
        """Put a summary of what lies before the window among the parts. Returns its tokens, and the last turn that
        it stands for, or would stand for if it had room."""
        past, begin = self._past, -(-(self._first - 1) // CHUNK) * CHUNK + 1
        known = past.tokens_until(past.last + 1) - past.tokens_until(self._first)
        before = window[0].entry.seq if window else past.last + 1
        upto = min(-(-(before - 1) // CHUNK), past.last // CHUNK) * CHUNK
        if not self._config.compression or known <= self._config.compression_threshold or upto < begin:
            return 0, 0
        stood_for = past.tokens_until(upto + 1) - past.tokens_until(begin)
        limit = min(limit, int(stood_for * self._config.compression_ratio)) - PER_MESSAGE
        tokens = 0
        written = facts.summary
        if written is not None and begin <= written.upto <= past.last:
            why = f"version {written.version} by {written.model}, stands for the turns up to {written.upto}"
            head = f"Summary of this conversation up to turn {written.upto} (version {written.version}):\n"
            if text := cut(head + written.text, limit, self._count):
                tokens = self._part("summary", text, why)
                begin, limit = written.upto // CHUNK * CHUNK + 1, limit - tokens
        summary = past.summary(begin, upto, limit)
        if summary.text:
            why = f"version {summary.version}, stands for turns {summary.since} to {summary.upto}"
            tokens += self._part("summary", summary.text, why)
        return tokens, upto

    def _relevant(self, until: int, limit: int) -> dict[int, Piece]:
        """What the new message asks about, among the turns before number `until`."""
        alike, weight = self._meaning or (None, 0.0)
        hits = self._past.search(self._asked, self._config.retrieval, self._first, until, alike, weight)
        found: dict[int, Piece] = {}
        for hit in hits:
            if hit.coverage < MIN_COVERAGE or hit.score < MIN_SCORE * hits[0].score or hit.seq in self._fixed:
                continue
            fitted = self._excerpt(hit.seq, self._asked, limit if not found else limit // 2)
            if fitted is not None:
                limit -= fitted.entry.tokens
                why = f"holds {hit.coverage:.0%} of what the new message asks about"
                found[hit.seq] = _shown(fitted, "relevant", why)
        return found

    def _excerpt(self, seq: int, asked: str, limit: int) -> Fitted | None:
        """A message within `limit` tokens: what it says of what is asked, where it is longer."""
        entry = self._past.entry(seq)
        assert entry is not None, "what is indexed is known"
        if entry.tokens <= limit:
            return Fitted(entry)
        text = excerpt(entry.message.text[:MAX_CHARS], asked, limit - PER_MESSAGE, self._count)
        message = Message(entry.message.role, text, name=entry.message.name)
        shown = entry._replace(message=message, tokens=message_tokens(message, self._count))
        return Fitted(shown, whole=False) if text and shown.tokens <= limit else None

    def _left_out(self, shown: Collection[int]) -> dict[str, int]:
        past = self._past
        old = past.last - len(past.entries) + past.place(self._first)
        old -= sum(seq < self._first for seq in (*shown, *(entry.seq for entry in past.instructions)))
        others = past.last - len(shown) - len(past.instructions) - old
        reasons = {"too old, or beyond context.search_turns": old, "outside the window": others}
        return {why: number for why, number in reasons.items() if number}


def _shown(fitted: Fitted, reason: Reason = "window", why: str = "one of the last messages") -> Piece:
    entry = fitted.entry
    why = why if fitted.whole else f"{why}; cut to {entry.tokens} tokens"
    return Piece(entry.message, Inclusion(reason, entry.tokens, entry.seq, why))


def state_line(workflow: str, turns: int, now_us: int) -> str:
    """The text of the source system_state."""
    now = datetime.fromtimestamp(now_us / 1e6, UTC)
    return f"It is {now:%A, %Y-%m-%d %H:%M} UTC. Workflow: {workflow}. Turns in this conversation so far: {turns}."
