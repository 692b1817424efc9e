"""Memories of one user: limits, search, supersession, consolidation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.config.schema import MemoryConfig
from rayflow.messages import Filter, Memory
from rayflow.policies.memory import Shelf, decode, encode

DAY_US = 86_400_000_000
NOW = 1_790_000_000_000_000


def memory(number: int, text: str, kind: str = "short_term", **more: Any) -> Memory:
    at = more.pop("at", NOW + number)
    return Memory(f"mem_{number:03}", kind, text, created_us=at, used_us=at, **more)  # type: ignore[arg-type]


def shelf(*memories: Memory, **config: Any) -> Shelf:
    made = Shelf(MemoryConfig(enabled=True, **config))
    made.add(memories, NOW)
    made.validate()
    return made


def texts(found: Any) -> list[str]:
    return [each.memory.text for each in found]


def test_a_newer_fact_about_the_same_takes_the_place_of_the_older() -> None:
    kept = shelf(memory(1, "I live in Graz", subject="home"))

    done, changes = kept.add([memory(2, "I moved to Linz", subject="home")], NOW)

    assert (done.added, done.superseded) == (1, 1)
    assert (list(changes.written), changes.gone) == (["mem_002"], {"mem_001"})
    assert [each.text for each in kept] == ["I moved to Linz"]


def test_an_older_fact_that_arrives_late_changes_nothing() -> None:
    kept = shelf(memory(2, "I moved to Linz", subject="home"))

    done, changes = kept.add([memory(1, "I live in Graz", subject="home")], NOW)

    assert (done.added, bool(changes)) == (0, False)


def test_what_is_said_again_is_the_same_memory_used_once_more() -> None:
    kept = shelf(memory(1, "I prefer tea"))

    kept.add([memory(2, "I prefer tea!", importance=0.9)], NOW)

    [only] = kept
    assert (only.id, only.uses, only.importance) == ("mem_001", 1, 0.9)


def test_an_id_that_is_known_changes_nothing() -> None:
    kept = shelf(memory(1, "I prefer tea"))

    assert kept.add([memory(1, "I prefer tea")], NOW)[1].written == {}


def test_without_room_the_least_recently_used_goes_and_the_unimportant_before_the_important() -> None:
    old_fact = memory(1, "I am allergic to nuts", "long_term", importance=0.9)
    kept = shelf(old_fact, memory(2, "The first thing"), memory(3, "A second thing"), max_items=3)

    done, changes = kept.add([memory(4, "Some third thing")], NOW)

    assert (done.evicted, changes.gone) == (1, {"mem_002"})
    kept.validate()


def test_what_was_recalled_stays_longer() -> None:
    kept = shelf(memory(1, "The parcel is blue"), memory(2, "The window is open"), max_items=2)
    kept.recall("parcel", 1, Filter(), NOW + 10, use=True)

    _, changes = kept.add([memory(3, "A door is shut")], NOW + 11)

    assert changes.gone == {"mem_002"}
    assert decode(changes.written["mem_001"]).uses == 1, "what was used is stored with the next change"


def test_the_limit_in_megabytes_is_of_what_is_stored() -> None:
    kept = shelf(*(memory(n, f"Note {n} " + "x" * 100) for n in range(20)), max_size_mb=0.001)

    assert 0 < kept.bytes <= 1000
    assert "mem_019" in {each.id for each in kept}


def test_a_search_finds_what_is_relevant_and_nothing_else() -> None:
    kept = shelf(memory(1, "My dog is called Rex"), memory(2, "I live in Graz", importance=1.0))

    assert texts(kept.recall("what is the name of my dog?", 5, Filter(), NOW)) == ["My dog is called Rex"]
    assert kept.recall("quantum chromodynamics", 5, Filter(), NOW) == []


def test_filling_adds_what_is_important_whatever_the_question() -> None:
    kept = shelf(memory(1, "I am allergic to nuts", importance=0.9), memory(2, "The bus was late", importance=0.4))

    found = kept.recall("What shall I cook?", 5, Filter(), NOW, fill=True)

    assert [(each.memory.text, each.why) for each in found] == [("I am allergic to nuts", "important")]


def test_what_says_the_same_is_found_once_and_a_model_is_told_few_episodes() -> None:
    asked = [memory(n, f"Where is parcel {n}?", "episodic") for n in range(5)]
    kept = shelf(memory(7, "The parcel is lost"), memory(8, "The parcel is lost", "episodic"), *asked)

    assert texts(kept.recall("parcel", 9, Filter(), NOW)).count("The parcel is lost") == 1
    told = [each.memory.kind for each in kept.recall("parcel", 9, Filter(), NOW, fill=True)]
    assert (told.count("episodic"), told.count("short_term")) == (2, 1)


def test_an_index_of_many_that_are_gone_still_finds_those_that_are_there() -> None:
    kept = shelf(max_items=8)
    for number in range(300):
        kept.add([memory(number, f"Parcel number {number}")], NOW)

    found = {each.memory.id for each in kept.recall("parcel", 20, Filter(), NOW)}
    assert found == {f"mem_{number}" for number in range(292, 300)}
    assert texts(kept.recall("parcel 299", 1, Filter(), NOW)) == ["Parcel number 299"]


def test_of_equally_relevant_ones_the_more_important_and_then_the_newer_comes_first() -> None:
    kept = shelf(
        memory(1, "A red car old", at=NOW - 30 * DAY_US), memory(2, "A red car new", "episodic", at=NOW),
        memory(3, "A red car big", "episodic", importance=0.9, at=NOW),
    )  # fmt: skip

    assert [each.memory.id for each in kept.recall("red car", 3, Filter(), NOW)] == ["mem_003", "mem_002", "mem_001"]


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (Filter(kinds=["episodic"]), ["mem_002"]),
        (Filter(agent="b"), ["mem_002", "mem_003"]),
        (Filter(tags=["x"]), ["mem_001"]),
        (Filter(session_id="s3"), ["mem_003"]),
        (Filter(since_us=NOW + 2, until_us=NOW + 3), ["mem_002"]),
        (Filter(asker="a"), ["mem_001", "mem_002"]),
        (Filter(asker="b"), ["mem_001", "mem_002", "mem_003"]),
    ],
)
def test_a_filter_lets_only_its_own_through(wanted: Filter, ids: list[str]) -> None:
    kept = shelf(
        memory(1, "red car one", agent="a", tags=["x", "y"]),
        memory(2, "red car two", "episodic", agent="b"),
        memory(3, "red car three", agent="b", private=True, session_id="s3"),
    )

    assert sorted(each.memory.id for each in kept.recall("red car", 9, wanted, NOW)) == ids


def test_vectors_find_what_has_no_word_in_common() -> None:
    kept = shelf(memory(1, "I have a beagle"), memory(2, "I own a bicycle"))

    def near(query: str, all_texts: Any) -> list[float]:
        return [0.9 if "beagle" in text else 0.0 for text in all_texts]

    assert texts(kept.recall("hound", 5, Filter(), NOW, similarity=near)) == ["I have a beagle"]


def test_forgetting_takes_single_ones_or_all() -> None:
    kept = shelf(*(memory(n, f"Thing number {n}") for n in range(1, 4)))

    assert kept.forget(["mem_002", "mem_999"]).gone == {"mem_002"}
    assert kept.forget(None).gone == {"mem_001", "mem_003"}
    assert len(kept) == 0
    kept.validate()


def test_the_important_becomes_long_term_and_the_faded_is_forgotten() -> None:
    kept = shelf(
        memory(1, "I am allergic to nuts", importance=0.85), memory(2, "The bus was late", importance=0.4),
        memory(3, "I like trains", "long_term", importance=0.8),
    )  # fmt: skip

    done, changes = kept.consolidate(NOW + 7 * DAY_US)

    assert (done.promoted, done.forgotten) == (1, 1)
    assert changes.gone == {"mem_002"}
    assert [(each.id, each.kind) for each in kept] == [("mem_001", "long_term"), ("mem_003", "long_term")]


def test_episodes_that_repeat_become_one_fact_that_grows() -> None:
    asked = ["Where is my parcel?", "Is the parcel late?", "My parcel has not come"]
    kept = shelf(*(memory(n, text, "episodic") for n, text in enumerate(asked, 1)), memory(9, "Sing!", "episodic"))

    assert kept.consolidate(NOW)[0].facts == 1
    [fact] = [each for each in kept if each.kind == "semantic"]
    assert "parcel" in fact.text
    assert fact.links == ["mem_001", "mem_002", "mem_003"]
    assert kept.consolidate(NOW)[0].facts == 0, "nothing is new"

    kept.add([memory(10, "Any news of the parcel?", "episodic")], NOW)
    assert kept.consolidate(NOW)[0].facts == 1
    [grown] = [each for each in kept if each.kind == "semantic"]
    assert "mem_010" in grown.links
    kept.validate()


def test_tools_that_have_served_three_times_are_a_skill() -> None:
    asked = ["Refund order 5", "Money back for order 6", "Return my shoes please"]
    kept = shelf(*(memory(n, text, "episodic", tools=["find", "refund"]) for n, text in enumerate(asked, 1)))

    assert kept.consolidate(NOW)[0].skills == 1
    [skill] = [each for each in kept if each.kind == "procedural"]
    assert skill.tools == ["find", "refund"]
    assert "find, refund" in skill.text


def test_nothing_becomes_of_a_kind_that_is_not_wanted() -> None:
    asked = [memory(n, f"parcel question {n}", "episodic", tools=["find"]) for n in range(4)]
    kept = shelf(memory(9, "I am deaf", importance=0.9), *asked, kinds=["short_term", "episodic"])

    done, changes = kept.consolidate(NOW)
    assert (done.promoted, done.facts, done.skills, bool(changes)) == (0, 0, 0, False)


def test_private_episodes_make_private_facts() -> None:
    mine = [memory(n, f"parcel question {n}", "episodic", agent="a", private=True) for n in range(3)]
    theirs = [memory(n, f"parcel question {n}", "episodic", agent="b", private=True) for n in range(5, 7)]
    kept = shelf(*mine, *theirs)
    kept.consolidate(NOW)

    [fact] = [each for each in kept if each.kind == "semantic"]
    assert (fact.agent, fact.private, len(fact.links)) == ("a", True, 3)


def test_an_episode_is_linked_to_the_one_before_it_in_its_session() -> None:
    kept = shelf(memory(1, "First question", "episodic", session_id="s"), memory(2, "Next", "episodic", session_id="s"))

    assert [each.links for each in kept] == [[], ["mem_001"]]


@given(st.text(max_size=2000), st.floats(0, 1), st.lists(st.text(max_size=20), max_size=5))
def test_what_is_stored_comes_back(text: str, importance: float, tags: list[str]) -> None:
    kept = memory(1, text, importance=importance, tags=tags)

    assert decode(encode(kept)) == kept


@given(
    st.lists(
        st.tuples(
            st.integers(0, 30), st.sampled_from(["red car", "blue boat", "my dog", "a green tree", "an old red car"]),
            st.sampled_from(["short_term", "long_term", "episodic", "semantic"]),
            st.sampled_from(["", "home", "name"]), st.floats(0, 1), st.booleans(),
        ),
        max_size=20,
    )
)  # fmt: skip
def test_whatever_happens_the_invariants_hold_and_what_is_stored_is_what_is_there(steps: list[Any]) -> None:
    kept, stored = Shelf(MemoryConfig(enabled=True, max_items=8)), dict[str, bytes]()
    for number, text, kind, about, importance, tidy in steps:
        _, changes = kept.add([memory(number, text, kind, subject=about, importance=importance)], NOW)
        for more in (changes, kept.consolidate(NOW + number * DAY_US)[1] if tidy else changes):
            stored |= more.written
            for gone in more.gone:
                stored.pop(gone, None)
        kept.recall(text, 3, Filter(), NOW)
        kept.validate()
    assert {each.id: encode(each) for each in kept} == stored
