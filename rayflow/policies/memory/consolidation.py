"""What becomes of memories with time: the important ones stay, the others fade, and what repeats becomes knowledge.

Importance grows by a little with each use. What a person said becomes long_term once it is important enough. Of
short_term and episodic memories it also fades, by half in a week without use; what has faded below the limit is
forgotten. Episodes that have most of their words in common become one semantic fact, and a row of tools that has
served several times becomes a procedural one; both grow with further episodes.
Where this is from: the consolidation of episodes into knowledge in the sense of E. Tulving, "Episodic and Semantic
Memory", 1972; the fading is exponential for want of anything better founded.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from hashlib import blake2b
from typing import NamedTuple

from msgspec.structs import replace

from rayflow.language.sentences import sentences
from rayflow.messages.memory import Consolidated, Kind, Memory

USE = 0.05
"""So much more important with each use."""
HALF_LIFE_S = 7 * 86_400.0
FADING = frozenset({"short_term", "episodic"})
REPEATED = 3
"""So many episodes make a pattern."""
ALIKE = 0.5
"""Two episodes are alike if they share so much of the words of the shorter one."""
PATTERN, PATTERN_EACH, PATTERN_MOST = 0.5, 0.05, 0.8
MOST_COMPARED = 200
"""The newest so many episodes are compared with each other."""
MAX_LINKS = 20
MAX_QUOTE_CHARS = 200


class Consolidation(NamedTuple):
    """`changed`: new memories and those that are different now. `gone`: ids."""

    changed: list[Memory]
    gone: list[str]
    counts: Consolidated


def weight(memory: Memory) -> float:
    """How important a memory is, with its uses."""
    return min(memory.importance + USE * memory.uses, 1.0)


def strength(memory: Memory, now_us: int) -> float:
    """What is left of that now."""
    if memory.kind not in FADING:
        return weight(memory)
    unused_s = max(now_us - max(memory.used_us, memory.created_us), 0) / 1e6
    return float(weight(memory) * 0.5 ** (unused_s / HALF_LIFE_S))


def consolidate(
    memories: Iterable[Memory], now_us: int, promote: float, forget: float, kinds: Collection[Kind]
) -> Consolidation:
    """What is to change, towards `kinds` only. Doing it twice changes nothing more."""
    promoted: list[Memory] = []
    gone: list[str] = []
    kept: list[Memory] = []
    for memory in memories:
        if memory.kind == "short_term" and "long_term" in kinds and weight(memory) >= promote:
            memory = replace(memory, kind="long_term")
            promoted.append(memory)
        if strength(memory, now_us) < forget:
            gone.append(memory.id)
        else:
            kept.append(memory)
    forgotten = len(gone)
    promoted = [memory for memory in promoted if memory.id not in gone]
    patterns = {memory.id: memory for memory in kept if memory.links and memory.kind in ("semantic", "procedural")}
    found: list[Memory] = []
    for episodes in _partitions(kept):
        found += [*_facts(episodes, now_us), *_skills(episodes, now_us)]
    found = [each for each in found if each.kind in kinds]
    grown = [each for each in found if each.id not in patterns or set(each.links) - set(patterns[each.id].links)]
    gone += _replaced(found, patterns)
    kinds = Counter(memory.kind for memory in grown)
    counts = Consolidated(len(promoted), forgotten, kinds["semantic"], kinds["procedural"])
    return Consolidation([*promoted, *grown], gone, counts)


def _partitions(memories: Iterable[Memory]) -> Iterable[list[Memory]]:
    """Episodes, oldest first; those that are private to an agent by themselves, so that no fact tells of them to
    others."""
    whose: defaultdict[str, list[Memory]] = defaultdict(list)
    for memory in memories:
        if memory.kind == "episodic":
            whose[memory.agent if memory.private else ""].append(memory)
    for episodes in whose.values():
        yield sorted(episodes, key=lambda memory: (memory.created_us, memory.id))[-MOST_COMPARED:]


def _replaced(found: Iterable[Memory], patterns: dict[str, Memory]) -> Iterable[str]:
    """Facts whose episodes are by now those of another one: what they have in common was said better."""
    now = {(link, each.kind) for each in found for link in each.links}
    ids = {each.id for each in found}
    for memory in patterns.values():
        if memory.id not in ids and any((link, memory.kind) in now for link in memory.links):
            yield memory.id


def _facts(episodes: list[Memory], now_us: int) -> Iterable[Memory]:
    for group in _groups(episodes):
        common = _common(group)
        if len(group) < REPEATED or not common:
            continue
        importance = min(PATTERN + PATTERN_EACH * len(group), PATTERN_MOST)
        text = f"Has often asked about {', '.join(common)}; last: {group[-1].text[:MAX_QUOTE_CHARS]}"
        yield _pattern("semantic", f"asks {' '.join(sorted(common))}", text, importance, group, now_us)


def _skills(episodes: list[Memory], now_us: int) -> Iterable[Memory]:
    served: defaultdict[tuple[str, ...], list[Memory]] = defaultdict(list)
    for episode in episodes:
        if episode.tools:
            served[tuple(episode.tools)].append(episode)
    for tools, group in served.items():
        if len(group) >= REPEATED:
            asked = group[-1].text[:MAX_QUOTE_CHARS]
            text = f"For requests such as '{asked}' these tools have served, in this order: {', '.join(tools)}"
            yield _pattern("procedural", f"tools {' '.join(tools)}", text, PATTERN_MOST, group, now_us)


def _pattern(kind: Kind, subject: str, text: str, importance: float, group: list[Memory], now_us: int) -> Memory:
    """Its id follows from what it is about, so a pattern that grows stays one memory."""
    last = group[-1]
    agent = last.agent if last.private else ""
    return Memory(
        id=f"mem_{blake2b(f'{kind} {agent} {subject}'.encode(), digest_size=12).hexdigest()}",
        kind=kind,
        text=text,
        importance=round(importance, 3),
        subject=subject,
        tags=_common(group),
        agent=agent,
        private=last.private,
        created_us=last.created_us,
        used_us=now_us,
        links=[episode.id for episode in group[-MAX_LINKS:]],
        tools=last.tools if kind == "procedural" else [],
    )


def _groups(episodes: list[Memory]) -> list[list[Memory]]:
    """Episodes that are alike, oldest first: each joins the group whose first one it is most alike."""
    groups: list[tuple[frozenset[str], list[Memory]]] = []
    for episode in episodes:
        held = frozenset(_words(episode.text))
        if not held:
            continue
        likeness = [(len(held & first) / min(len(held), len(first)), n) for n, (first, _) in enumerate(groups)]
        best, n = max(likeness, default=(0.0, -1))
        if best >= ALIKE:
            groups[n][1].append(episode)
        else:
            groups.append((held, [episode]))
    return [group for _, group in groups]


def _common(group: list[Memory]) -> list[str]:
    """Words of at least half of the group, the commonest first."""
    counts = Counter(word for episode in group for word in set(_words(episode.text)))
    common = [(-n, word) for word, n in counts.items() if 2 * n >= len(group)]
    return [word for _, word in sorted(common)][:5]


def _words(text: str) -> list[str]:
    """Stems, without kinds of facts."""
    held = frozenset[str]().union(*(part.stems for part in sentences(text)))
    return [word for word in held if not word.startswith("<")]
