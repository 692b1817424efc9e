"""What becomes of the answers of two and three agents that agree, add to each other, contradict each other, are late or
fail: the text and the metadata of every strategy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.config.schema import AggregationConfig
from rayflow.errors import ConfigurationError, ExecutionError
from rayflow.messages import Joined, Part
from rayflow.policies.merging import Merger, leads

QUESTION = "How long do refunds take, and how do I ask for one?"

BILLING = Part(
    "billing",
    "Refunds take 14 days. Ask for one on the orders page. The money goes back to your original card.",
    confidence=0.9,
)
SUPPORT = Part("support", "A refund takes 14 days. Keep the box until then.", confidence=0.6)
SHOP = Part("shop", "Refunds take 30 days. Ask for one on the orders page.", confidence=0.3)
LATE = Part("slow", error="not there 2 s after others: left out", late=True)
DOWN = Part("down", error="the model is not there")


def joined(*parts: Part, lead: str = "", verdict: dict[str, float] | None = None, **config: Any) -> Joined:
    return Merger(AggregationConfig.model_validate(config)).join(QUESTION, parts, lead=lead, verdict=verdict)


def complementary(*parts: Part, **config: Any) -> Joined:
    return joined(*parts, strategy="intelligent_merge", **config)


def competitive(*parts: Part, **config: Any) -> Joined:
    return joined(*parts, strategy="intelligent_merge", merge_strategy="competitive", **config)


def collaborative(*parts: Part, **config: Any) -> Joined:
    return joined(*parts, strategy="intelligent_merge", merge_strategy="collaborative", **config)


def consensus(*parts: Part, **config: Any) -> Joined:
    return joined(*parts, strategy="consensus", **config)


# --- complementary ---


def test_two_agents_that_complement_each_other_are_one_answer_with_its_sources() -> None:
    found = complementary(BILLING, SUPPORT)
    assert found.text == (f"{BILLING.text}\n\n**support**: Keep the box until then.\n\n*Sources: billing, support*")
    assert found.agents == ["billing", "support"]
    assert (found.metadata["worker_count"], found.metadata["validation_rate"]) == (2, 1.0)
    assert found.metadata["conflicts"] == []


def test_plain_text_has_no_marks_and_no_names_where_none_are_wanted() -> None:
    assert complementary(BILLING, SUPPORT, format="plain").text == (
        f"{BILLING.text}\n\nsupport: Keep the box until then.\n\nSources: billing, support"
    )
    assert complementary(BILLING, SUPPORT, source_attribution=False).text == (
        f"{BILLING.text}\n\nKeep the box until then."
    )


def test_two_agents_that_agree_are_one_answer_of_one() -> None:
    found = complementary(BILLING, Part("echo", "Refunds take 14 days. Ask on the orders page for one."))
    assert (found.text, found.agents) == (BILLING.text, ["billing"])


def test_agreement_raises_the_confidence_and_contradiction_lowers_it() -> None:
    agreeing, silent, contradicting = (
        joined(BILLING, Part("b", text), strategy="best_response")
        for text in ("Refunds take 14 days.", "Please call us.", "Refunds take 30 days.")
    )
    assert agreeing.text == silent.text == contradicting.text
    assert contradicting.confidence < silent.confidence < agreeing.confidence
    assert contradicting.metadata["scores"]["b"]["accuracy"] == 0
    assert agreeing.metadata["scores"]["b"]["accuracy"] == 1


def test_the_statement_of_the_less_expert_agent_is_left_out() -> None:
    found = complementary(BILLING, SHOP)
    assert (found.text, found.agents) == (BILLING.text, ["billing"])
    assert found.metadata["conflicts"] == [
        {
            "kind": "number",
            "statements": {"billing": "Refunds take 14 days.", "shop": "Refunds take 30 days."},
            "kept": ["billing"],
        }
    ]


def test_where_the_leading_agent_is_the_less_expert_the_expert_contradicts_it() -> None:
    found = complementary(SHOP, BILLING)
    assert found.text.startswith(SHOP.text + "\n\n**billing**: Refunds take 14 days. *(contradicts shop)*")
    assert found.metadata["conflicts"][0]["kept"] == ["shop", "billing"]


def test_where_nothing_is_streamed_the_best_leads_and_what_lost_is_gone() -> None:
    found = complementary(SHOP, BILLING, stream_leading=False)
    assert found.text == BILLING.text
    assert found.metadata["conflicts"][0]["kept"] == ["billing"]
    better = Part("better", "Refunds take 30 days. Ask for one on the orders page, or call us in the week.")
    expert = Part("expert", "Refunds take 14 days.", confidence=0.9)
    found = complementary(better, expert, stream_leading=False)
    assert "30 days" not in found.text
    assert "Refunds take 14 days." in found.text


def test_the_better_answer_may_be_preferred_to_the_expert() -> None:
    expert = Part("expert", "Refunds take 14 days.", confidence=0.9)
    found = complementary(SHOP, expert, conflict_resolution="highest_score")
    assert found.text == SHOP.text
    assert complementary(SHOP, expert).agents == ["shop", "expert"]


def test_both_sides_of_a_conflict_may_be_shown_and_the_later_is_marked() -> None:
    found = complementary(BILLING, SHOP, conflict_resolution="show_both")
    assert found.text == (
        f"{BILLING.text}\n\n**shop**: Refunds take 30 days. *(contradicts billing)*\n\n*Sources: billing, shop*"
    )
    plain = complementary(BILLING, SHOP, conflict_resolution="show_both", format="plain")
    assert "Refunds take 30 days. (contradicts billing)" in plain.text


def test_of_three_agents_each_adds_what_is_new_best_first() -> None:
    third = Part("third", "Shipping labels for returned parcels can be printed at home. Keep the box until then.")
    found = complementary(BILLING, SUPPORT, third)
    assert found.agents[0] == "billing"
    assert found.text.count("Keep the box until then.") == 1
    assert "Shipping labels for returned parcels can be printed at home." in found.text
    assert found.metadata["worker_count"] == 3


def test_an_agent_that_is_late_and_one_that_failed_are_named_apart() -> None:
    found = complementary(BILLING, LATE, DOWN)
    assert (found.text, found.agents) == (BILLING.text, ["billing"])
    assert found.metadata["late"] == ["slow"]
    assert found.metadata["failed"] == {"down": "the model is not there"}
    assert (found.metadata["worker_count"], found.metadata["validation_rate"]) == (3, 0.3333)
    assert found.confidence == pytest.approx(complementary(BILLING).confidence / 3, abs=1e-4)


def test_a_refusal_is_left_out_and_named() -> None:
    found = complementary(Part("shy", "I'm sorry, but I can't help with that."), BILLING)
    assert found.text == BILLING.text
    assert found.metadata["failed"] == {"shy": "refused to answer"}
    assert found.metadata["validation_rate"] == 0.5


def test_where_all_refuse_a_refusal_is_the_answer_and_nobody_is_sure_of_it() -> None:
    found = complementary(Part("shy", "I cannot help with that."), DOWN)
    assert (found.text, found.confidence, found.metadata["validation_rate"]) == ("I cannot help with that.", 0, 0)


def test_what_was_streamed_stands_whatever_the_others_say() -> None:
    refusal = Part("shy", "\nI cannot help with that.  ")
    found = complementary(refusal, BILLING, lead="shy")
    assert found.text.startswith(refusal.text + "\n\n**billing**: ")
    assert (found.lead, found.agents) == ("shy", ["shy", "billing"])
    assert found.metadata["failed"] == {"shy": "refused to answer"}


def test_what_was_streamed_is_never_cut() -> None:
    found = complementary(BILLING, SUPPORT, lead="billing", max_merged_length=20)
    assert (found.text, found.agents) == (BILLING.text, ["billing"])
    cut = complementary(BILLING, SUPPORT, max_merged_length=55)
    assert cut.text == "Refunds take 14 days. Ask for one on the orders page."


def test_names_are_left_out_where_they_would_push_out_the_answer() -> None:
    limit = len(BILLING.text) + 30
    found = complementary(BILLING, SUPPORT, max_merged_length=limit)
    assert len(found.text) <= limit
    assert "Sources" not in found.text


# --- competitive ---


def test_each_point_is_made_in_the_best_words_and_the_rest_is_added() -> None:
    vague = Part("vague", "Refunds take 14 days. You ask on the page. Send the parcel back with the label inside it.")
    exact = Part("exact", "By the way, refunds take 14 days after you ask for one.")
    found = competitive(vague, exact)
    assert "refunds take 14 days after you ask for one" in found.text
    assert "Refunds take 14 days. " not in found.text
    assert "Send the parcel back with the label inside it." in found.text
    assert sorted(found.agents) == ["exact", "vague"]
    assert found.text.endswith(f"*Sources: {', '.join(found.agents)}*")


def test_a_point_that_only_the_weaker_agent_makes_is_kept() -> None:
    found = competitive(BILLING, SUPPORT)
    assert "Keep the box until then." in found.text
    assert found.text.count("14 days") == 1


def test_of_contradicting_points_only_the_experts_competes() -> None:
    found = competitive(SHOP, BILLING)
    assert "14 days" in found.text
    assert "30 days" not in found.text
    assert found.metadata["conflicts"][0]["kept"] == ["billing"]


# --- collaborative ---


def test_points_stand_beside_each_other_under_their_agents_names() -> None:
    found = collaborative(BILLING, SUPPORT)
    assert found.text == (
        "- **billing**: Refunds take 14 days.\n"
        "  **support**: A refund takes 14 days.\n"
        "- **billing**: Ask for one on the orders page.\n"
        "- **billing**: The money goes back to your original card.\n"
        "- **support**: Keep the box until then."
    )
    assert found.agents == ["billing", "support"]


def test_who_says_it_in_the_same_words_is_named_together() -> None:
    found = collaborative(Part("a", "Refunds take 14 days."), Part("b", "Refunds take 14 days!"))
    assert found.text == "- **a, b**: Refunds take 14 days."


def test_contradicting_points_stand_beside_each_other_where_both_are_shown() -> None:
    found = collaborative(BILLING, SHOP, conflict_resolution="show_both")
    assert found.text.startswith(
        "- **billing**: Refunds take 14 days.\n  **shop**: Refunds take 30 days. *(contradicts billing)*"
    )
    assert "30 days" not in collaborative(BILLING, SHOP).text


def test_code_is_no_point_and_follows_whole() -> None:
    code = "```\nrefund(order)\n```"
    found = collaborative(BILLING, Part("dev", f"Refunds take 14 days.\n\n{code}"))
    assert found.text.endswith(f"**dev**:\n\n{code}")


# --- consensus ---


def test_of_three_agents_the_majority_says_it() -> None:
    found = consensus(SHOP, BILLING, SUPPORT)
    assert "14 days" in found.text
    assert "30 days" not in found.text
    assert "Ask for" in found.text  # two of them say so
    assert "box" not in found.text
    assert found.metadata["consensus"] > 0


def test_of_two_agents_only_what_both_say_stands() -> None:
    found = consensus(BILLING, SUPPORT)
    assert found.text == "Refunds take 14 days."
    assert found.metadata["consensus"] == pytest.approx(1 / 3, abs=1e-4)


def test_without_any_agreement_the_best_answer_stands() -> None:
    found = consensus(Part("a", "Refunds take 14 days."), Part("b", "Refunds take 30 days, ask for one by phone."))
    assert found.text == "Refunds take 30 days, ask for one by phone."
    assert found.metadata["consensus"] == 0


def test_who_is_late_or_failed_has_no_vote() -> None:
    found = consensus(BILLING, SUPPORT, LATE, DOWN)
    assert found.text == "Refunds take 14 days."


def test_the_majority_is_right_against_the_expert() -> None:
    found = consensus(Part("expert", "Refunds take 30 days.", confidence=1.0), BILLING, SUPPORT)
    assert found.text == "Refunds take 14 days."


# --- best_response ---


def test_the_best_response_knows_what_the_others_think_of_it() -> None:
    found = joined(SHOP, BILLING, SUPPORT, strategy="best_response", max_merged_length=5)
    assert (found.text, found.agents) == (BILLING.text, ["billing"])
    assert found.metadata["conflicts"][0]["kept"] in (["billing"], [])


def test_a_judges_verdict_stands_for_the_agreement() -> None:
    verdict = {"billing": 0.0, "shop": 1.0}
    found = joined(BILLING, SHOP, strategy="best_response", verdict=verdict)
    assert found.metadata["scores"]["shop"]["accuracy"] == 1
    assert found.metadata["scores"]["billing"]["accuracy"] == 0
    assert found.metadata["accuracy_by"] == "judge"
    assert joined(BILLING, SHOP).metadata["accuracy_by"] == "agreement"


def test_the_weights_of_the_scores_decide_what_is_best() -> None:
    short, long = (
        Part("short", "Refunds take 14 days, ask for one."),
        Part("long", "Our shop is open. " + "It is nice here " * 9),
    )
    relevance = {"relevance": 1.0, "completeness": 0.0, "accuracy": 0.0, "clarity": 0.0}
    completeness = {"relevance": 0.0, "completeness": 1.0, "accuracy": 0.0, "clarity": 0.0}
    assert joined(short, long, strategy="best_response", weights=relevance).agents == ["short"]
    assert joined(short, long, strategy="best_response", weights=completeness).agents == ["long"]


# --- merge ---


def test_merge_keeps_contradictions_and_tells_of_them() -> None:
    found = joined(BILLING, SHOP)
    assert found.text.startswith("**billing**: Refunds take 14 days.")
    assert "Refunds take 30 days." in found.text
    assert found.metadata["conflicts"][0]["kept"] == ["billing", "shop"]


def test_an_answer_without_words_is_one() -> None:
    thumb = Part("a", "👍")
    assert joined(thumb, Part("b", "Yes.")).text == "**a**: 👍\n\n**b**: Yes."
    assert complementary(thumb).text == consensus(thumb).text == competitive(thumb).text == "👍"


def test_a_list_begins_on_its_own_line_below_the_name() -> None:
    found = joined(Part("a", "- one\n- two"), Part("b", "Three."))
    assert found.text == "**a**:\n\n- one\n- two\n\n**b**: Three."


def test_a_heading_goes_with_what_stood_below_it() -> None:
    found = complementary(BILLING, Part("b", "# Time\n\nRefunds take 14 days.\n\n# Box\n\nKeep the box until then."))
    assert "# Time" not in found.text
    assert "# Box\n\nKeep the box until then." in found.text


# --- leading ---


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"strategy": "intelligent_merge"}, True),
        ({"strategy": "intelligent_merge", "merge_strategy": "competitive"}, False),
        ({"strategy": "intelligent_merge", "merge_strategy": "collaborative"}, False),
        ({"strategy": "intelligent_merge", "stream_leading": False}, False),
        ({"strategy": "merge", "source_attribution": False}, True),
        ({"strategy": "merge"}, False),
        ({"strategy": "best_response"}, False),
        ({"strategy": "consensus"}, False),
    ],
)
def test_the_first_agent_leads_only_where_nothing_can_come_before_it(config: dict[str, Any], expected: bool) -> None:
    assert leads(AggregationConfig.model_validate(config)) is expected


TEXTS = st.text(alphabet="ab 1.!?\n`-|#:", max_size=60)
CONFIGS = st.fixed_dictionaries(
    {
        "strategy": st.sampled_from(["best_response", "merge", "intelligent_merge", "consensus"]),
        "merge_strategy": st.sampled_from(["complementary", "competitive", "collaborative"]),
        "conflict_resolution": st.sampled_from(["expert_preference", "highest_score", "show_both"]),
        "source_attribution": st.booleans(),
        "format": st.sampled_from(["markdown", "plain"]),
        "max_merged_length": st.integers(1, 200),
    }
)


@given(st.lists(TEXTS, min_size=1, max_size=4), CONFIGS)
def test_every_strategy_gives_a_text_of_those_who_are_named(texts: list[str], config: dict[str, Any]) -> None:
    parts = [Part(f"agent{i}", text, confidence=i / 4) for i, text in enumerate(texts)]
    if not any(text.strip() for text in texts):
        with pytest.raises(ExecutionError):
            joined(*parts, **config)
        return
    found = joined(*parts, **config)
    assert found.text
    assert found.agents
    assert set(found.agents) <= {part.agent for part in parts}
    assert 0 <= found.confidence <= 1
    if config["strategy"] in ("merge", "intelligent_merge"):
        assert len(found.text) <= config["max_merged_length"]


def test_an_empty_answer_that_was_streamed_leads_nothing() -> None:
    found = complementary(Part("mute", ""), BILLING, lead="mute")
    assert (found.text, found.lead, found.agents) == (BILLING.text, "", ["billing"])


def test_the_metadata_do_not_grow_with_every_contradiction() -> None:
    one, other = (
        Part(agent, " ".join(f"Plan{i} costs {price} dollars per seat." for i in range(40)))
        for agent, price in (("a", 5), ("b", 6))
    )
    assert len(joined(one, other).metadata["conflicts"]) == 20


def test_a_streamed_answer_that_ends_within_a_sentence_is_not_cut_at_the_one_before() -> None:
    lead = Part("lead", "Refunds take 14 days. Ask for one on the orders page, or")
    assert complementary(lead, SUPPORT, lead="lead", max_merged_length=len(lead.text) + 3).text.startswith(lead.text)


@given(TEXTS.filter(lambda text: text != ""), st.lists(TEXTS, max_size=3), CONFIGS)
def test_where_somebody_leads_the_text_begins_with_every_character_that_was_streamed(
    lead: str, others: list[str], config: dict[str, Any]
) -> None:
    parts = [Part(f"agent{i}", text, confidence=i / 4) for i, text in enumerate([lead, *others])]
    if leads(AggregationConfig.model_validate(config)) and any(part.text.strip() for part in parts):
        assert joined(*parts, lead="agent0", **config).text.startswith(lead)


# --- policies of one's own ---

OWN = """
class Longest:
    def __init__(self, least=0):
        self.least = least

    def __call__(self, question, parts):
        best = max(parts, key=lambda part: len(part.text))
        return best.text, [best.agent]

def shouting(question, parts):
    return " ".join(part.text.upper() for part in parts)

def broken(question, parts):
    raise RuntimeError("no idea")

def silent(question, parts):
    return ""

def boasting(question, parts):
    return "mine", ["somebody"]
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    file = tmp_path / "own_merging.py"
    file.write_text(OWN)
    return str(file)


def test_a_policy_of_ones_own_joins_the_valid_parts(own: str) -> None:
    found = joined(BILLING, SUPPORT, DOWN, strategy=f"{own}:Longest", options={"least": 1})
    assert (found.text, found.agents) == (BILLING.text, ["billing"])
    assert found.metadata["worker_count"] == 3
    shouted = joined(BILLING, SUPPORT, strategy=f"{own}:shouting")
    assert shouted.text == f"{BILLING.text} {SUPPORT.text}".upper()
    assert shouted.agents == ["billing", "support"]


@pytest.mark.parametrize("name", ["broken", "silent", "boasting"])
def test_merge_stands_in_for_a_policy_that_fails(own: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    found = joined(BILLING, SUPPORT, strategy=f"{own}:{name}")
    assert found.text == joined(BILLING, SUPPORT).text
    assert found.metadata["fallback"] == "merge"
    assert f"{name} failed" in caplog.text


def test_a_policy_that_does_not_exist_is_a_configuration_error(own: str) -> None:
    with pytest.raises(ConfigurationError, match=r"aggregation\.strategy"):
        Merger(AggregationConfig(strategy=f"{own}:nothing"))
