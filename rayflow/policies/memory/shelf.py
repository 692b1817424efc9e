"""All memories of one user in one workflow, within their limits.

Pure: what changes is collected in `Changes`, for whoever stores it. A fact takes the place of an older one about the
same subject; what was said before in the same words is the same memory, used once more. Where there is no room, what
was not used for longest goes first, and before anything important all that is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from rayflow.config.schema import MemoryConfig
from rayflow.language.sentences import Sentence, sentences
from rayflow.messages.memory import Consolidated, Filter, Found, Memory, Remembered
from rayflow.policies.context.search import Index
from rayflow.policies.memory.coding import encode
from rayflow.policies.memory.consolidation import FADING, consolidate, weight
from rayflow.policies.memory.ranking import Similarity, admits, important, rank

EPISODES = 2
"""A model is told no more of them: who asks the same again wants to know something else than that they did."""
DEAD = 64
"""The index is made anew when it has so many entries that are gone, and more of them than others."""


@dataclass(slots=True)
class Changes:
    """What is to be stored: memories as their bytes, by id, and ids that are gone."""

    written: dict[str, bytes] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.written or self.gone)


class Shelf:
    """Empty at first: `take` what is stored."""

    def __init__(self, config: MemoryConfig) -> None:
        self._config = config
        self._memories: dict[str, Memory] = {}
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._index = Index()
        self._numbers: dict[str, int] = {}
        """In the index, by id."""
        self._said: dict[str, frozenset[str]] = {}
        """The words of each, by id."""
        self._used: set[str] = set()
        self.changed = True
        """Whether there may be something to consolidate."""

    def take(self, memory: Memory) -> None:
        """One that is stored. About a tenth of a millisecond, most of it for the index."""
        self._put(memory)

    def __len__(self) -> int:
        return len(self._memories)

    def __iter__(self) -> Iterator[Memory]:
        """In the order of their ids."""
        return iter(sorted(self._memories.values(), key=lambda memory: memory.id))

    @property
    def bytes(self) -> int:
        """As stored."""
        return self._bytes

    def add(self, memories: Sequence[Memory], now_us: int) -> tuple[Remembered, Changes]:
        """Take memories in, oldest first; an id that is known changes nothing."""
        changes, added, superseded = self._flush(), 0, 0
        for memory in memories:
            if memory.id in self._memories:
                continue
            if (same := self._same(memory)) is not None:
                used = replace(
                    same,
                    uses=same.uses + 1,
                    used_us=max(now_us, same.used_us),
                    importance=max(same.importance, memory.importance),
                    private=same.private and memory.private,
                )
                self._put(used, changes)
                continue
            rivals = self._rivals(memory)
            if any(rival.created_us > memory.created_us for rival in rivals):
                continue
            for rival in rivals:
                self._drop(rival.id, changes)
            superseded += len(rivals)
            self._put(self._linked(memory), changes)
            added += 1
        evicted = self._make_room(changes)
        self.changed = self.changed or bool(changes)
        return Remembered(added, superseded, evicted), changes

    def recall(
        self,
        query: str,
        top_k: int,
        wanted: Filter,
        now_us: int,
        *,
        fill: bool = False,
        use: bool = False,
        similarity: Similarity | None = None,
    ) -> list[Found]:
        """What has most to do with `query`; what says the same counts once. `fill`: for a model: with important ones
        where less does, and few episodes. `use`: those found count as used; that is stored with the next change."""
        numbers = {self._numbers[m.id]: m for m in self._memories.values() if admits(wanted, m)}
        ranked = rank(query, numbers, self._index, now_us, similarity)
        found = self._distinct(ranked, EPISODES if fill else top_k)[:top_k]
        if use:
            for memory in (each.memory for each in found):
                self._put(replace(memory, used_us=max(now_us, memory.used_us), uses=memory.uses + 1))
                self._used.add(memory.id)
        if fill and len(found) < top_k:
            ids = {each.memory.id for each in found}
            found += important(numbers.values(), self._config.promote_importance, ids, top_k - len(found))
        return found

    def forget(self, ids: Iterable[str] | None) -> Changes:
        """`ids`: None for all of them."""
        changes = self._flush()
        for memory_id in [*self._memories] if ids is None else ids:
            if memory_id in self._memories:
                self._drop(memory_id, changes)
        return changes

    def consolidate(self, now_us: int) -> tuple[Consolidated, Changes]:
        changes, config = self._flush(), self._config
        done = consolidate(
            self._memories.values(), now_us, config.promote_importance, config.forget_importance, config.kinds
        )
        for memory_id in done.gone:
            self._drop(memory_id, changes)
        for memory in done.changed:
            self._put(memory, changes)
        self._make_room(changes)
        self.changed = False
        return done.counts, changes

    def validate(self) -> None:
        """Invariants, for tests."""
        assert self._memories.keys() == self._sizes.keys() == self._numbers.keys()
        assert self._bytes == sum(self._sizes.values()) == sum(len(encode(m)) for m in self._memories.values())
        assert len(self) <= self._config.max_items
        assert self._used <= self._memories.keys()
        subjects = [(m.subject, m.agent if m.private else "") for m in self if m.subject]
        assert len(subjects) == len(set(subjects)), "one fact about each subject"

    def _distinct(self, found: Iterable[Found], episodes: int) -> list[Found]:
        """One of those that say the same, rather a statement than an episode; and no more than so many episodes."""
        chosen: dict[frozenset[str], Found] = {}
        for each in found:
            said = self._said[each.memory.id]
            if said not in chosen or (chosen[said].memory.kind == "episodic" != each.memory.kind):
                chosen[said] = each
        distinct: list[Found] = []
        for each in chosen.values():
            if each.memory.kind == "episodic":
                episodes -= 1
            if each.memory.kind != "episodic" or episodes >= 0:
                distinct.append(each)
        return distinct

    def _flush(self) -> Changes:
        """What was used since the last change."""
        changes = Changes({each: encode(self._memories[each]) for each in self._used})
        self._used.clear()
        return changes

    def _same(self, memory: Memory) -> Memory | None:
        """What says the same already. Episodes count each for itself: that they repeat is what they are kept for."""
        if memory.kind == "episodic":
            return None
        said = _words(sentences(memory.text))
        return next(
            (
                other
                for other in self._memories.values()
                if other.kind != "episodic" and other.subject == memory.subject and _visible(other, memory)
                if self._said[other.id] == said
            ),
            None,
        )

    def _rivals(self, memory: Memory) -> list[Memory]:
        if not memory.subject:
            return []
        return [m for m in self._memories.values() if m.subject == memory.subject and _visible(m, memory)]

    def _linked(self, memory: Memory) -> Memory:
        """An episode is linked to the one before it in its session."""
        if memory.kind != "episodic" or memory.links or not memory.session_id:
            return memory
        earlier = [m for m in self._memories.values() if m.kind == "episodic" and m.session_id == memory.session_id]
        if not earlier:
            return memory
        return replace(memory, links=[max(earlier, key=lambda m: (m.created_us, m.id)).id])

    def _make_room(self, changes: Changes) -> int:
        config, evicted = self._config, 0
        most = int(config.max_size_mb * 1_000_000)
        while len(self) > config.max_items or (self._bytes > most and self):
            self._drop(min(self._memories.values(), key=self._worth).id, changes)
            evicted += 1
        return evicted

    def _worth(self, memory: Memory) -> tuple[bool, int, str]:
        """What goes first is least."""
        kept = memory.kind not in FADING or weight(memory) >= self._config.promote_importance
        return kept, max(memory.used_us, memory.created_us), memory.id

    def _put(self, memory: Memory, changes: Changes | None = None) -> None:
        value = encode(memory)
        known = self._memories.get(memory.id)
        if known is None or known.text != memory.text:
            self._number(memory)
        self._bytes += len(value) - self._sizes.get(memory.id, 0)
        self._memories[memory.id], self._sizes[memory.id] = memory, len(value)
        if changes is not None:
            changes.written[memory.id] = value

    def _drop(self, memory_id: str, changes: Changes) -> None:
        del self._memories[memory_id], self._numbers[memory_id], self._said[memory_id]
        self._bytes -= self._sizes.pop(memory_id)
        self._used.discard(memory_id)
        changes.written.pop(memory_id, None)
        changes.gone.add(memory_id)

    def _number(self, memory: Memory) -> None:
        """Give it a place in the index; made anew where most of its entries are gone."""
        self._numbers.pop(memory.id, None)
        if len(self._index) > max(DEAD, 2 * len(self._numbers)):
            self._index, known = Index(), [*self._numbers]
            self._numbers.clear()
            for memory_id in known:
                self._enter(self._memories[memory_id])
        self._enter(memory)

    def _enter(self, memory: Memory) -> None:
        number = self._numbers[memory.id] = len(self._index) + 1
        parts = sentences(memory.text)
        self._said[memory.id] = _words(parts)
        self._index.add(number, "user", parts)


def _words(parts: Iterable[Sentence]) -> frozenset[str]:
    return frozenset[str]().union(*(part.stems for part in parts))


def _visible(one: Memory, other: Memory) -> bool:
    """Whether the two are told to the same agents."""
    return one.private == other.private and (not one.private or one.agent == other.agent)
