"""Nearness to examples, without training and without any package."""

from __future__ import annotations

import pytest
from support.messages_to_route import THINGS, material, messages, strange, unseen

from rayflow.models.classifier import nearest
from rayflow.models.classifier.material import Material
from rayflow.models.classifier.nearest import NearestScorer
from rayflow.policies.routing.evaluation import calibration_error

LABELS = list(THINGS)


def test_a_message_goes_to_whom_its_nearest_examples_belong() -> None:
    found = material(per_label=40)
    scorer = NearestScorer(found)
    hits = [max(scores := scorer.score(text)) == scores[LABELS.index(label)] for text, label in messages(60, seed=99)]
    assert sum(hits) / len(hits) >= 0.75


def test_confidence_is_what_it_says() -> None:
    found = material(per_label=40)
    scorer = NearestScorer(found)
    scored = [(scorer.score(text), LABELS.index(label)) for text, label in messages(60, seed=99)]
    assert calibration_error([(max(scores), scores[label] == max(scores)) for scores, label in scored]) <= 0.12


def test_strangers_are_less_sure_than_acquaintances() -> None:
    found = material(per_label=40)
    scorer = NearestScorer(found)
    foreign = sorted(max(scorer.score(text)) for text in strange(60, seed=7))
    known = sorted(max(scorer.score(text)) for text, _ in unseen(found, seed=99))
    assert foreign[len(foreign) // 2] < known[len(known) // 4], "the middle stranger against the worst quarter"


def test_a_message_that_shares_nothing_with_any_example_is_nobodys() -> None:
    assert max(NearestScorer(material()).score("日本語だけ")) < 0.45
    assert max(NearestScorer(material()).score("")) < 0.45


def test_descriptions_alone_are_enough_to_begin_with() -> None:
    described = Material(["billing", "technical"], ["invoices and refunds", "crashes and login trouble"], [[0], [1]])
    billing, technical = NearestScorer(described).score("a refund for this invoice")
    assert billing > technical


def test_examples_of_nobodys_pull_nobody_in() -> None:
    found = Material(["a", "b"], ["pay my bill", "fix my phone", "tell me a joke"], [[0], [1], []])
    assert max(NearestScorer(found).score("tell me a joke")) < 0.45


def test_the_reason_is_the_example_that_is_most_like_the_message() -> None:
    found = Material(["a", "b"], ["pay my bill", "fix my phone"], [[0], [1]])
    assert NearestScorer(found).why("pay my bill", 0) == "like 'pay my bill' (1.00)"
    assert NearestScorer(found).why("日本", 1) == ""


def test_one_message_may_be_near_to_several_independent_labels() -> None:
    found = material(per_label=30)
    scorer = NearestScorer(Material(found.labels, found.texts, found.owners, True))
    billing, _, travel, cooking = scorer.score("i need a refund and a visa")
    assert min(billing, travel) > 2 * cooking


def test_too_many_examples_are_thinned_out_the_same_way_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "MAX_TEXTS", 20)
    text = "where is the refund"
    assert NearestScorer(material(40)).score(text) == NearestScorer(material(40)).score(text)
