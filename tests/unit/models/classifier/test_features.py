"""What a message is made of, for a classifier."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rayflow.models.classifier.features import MAX_WORDS, features, words


def test_a_message_is_its_words_their_pairs_and_their_pieces() -> None:
    assert features("My tax") == [
        "=my", "=tax", "=my tax",
        " m", "my", "y ", " my", "my ", " my ",
        " t", "ta", "ax", "x ", " ta", "tax", "ax ", " tax", "tax ", " tax ",
    ]  # fmt: skip


def test_related_words_share_pieces_and_case_and_form_do_not_matter() -> None:
    assert {" refu", "efund"} <= set(features("Refunded")) & set(features("refunds"))
    assert features("CAFE\u0301") == features("caf\u00e9")


def test_of_a_long_message_the_beginning_and_the_end_count() -> None:
    long = [f"w{i}" for i in range(1000)]
    assert words(" ".join(long)) == long[:80] + long[-40:]


def test_one_endless_word_is_not_cut_into_endless_pieces() -> None:
    assert len(features("a1b2c3d4" * 10_000)) < 200


@given(st.text(max_size=200))
def test_any_text_has_a_bounded_number_of_features_each_once(text: str) -> None:
    found = features(text)
    assert len(found) == len(set(found))
    assert len(found) <= MAX_WORDS * 170
