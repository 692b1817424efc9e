"""What sentences say: which contradict each other, and, more importantly, which do not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.policies.merging.meaning import understand

CONTRADICTIONS = [
    ("number", "Refunds take 14 days.", "Refunds take 30 days."),
    ("number", "The warranty lasts two years.", "The warranty lasts 12 months."),
    ("number", "You can return items within 30 days.", "Returns are accepted within 14 days of delivery."),
    ("number", "The Pro plan costs $20 per month.", "The Pro plan costs 25 dollars a month."),
    ("number", "Passwords must have at least 8 characters.", "Passwords need at least 12 characters."),
    ("number", "Up to 10 users are included in the plan.", "The plan includes up to 5 users."),
    ("number", "The service listens on port 8080.", "The service listens on port 80."),
    ("number", "The company was founded in 1998.", "The company was founded in 2001."),
    ("number", "The office opens at 9 am.", "The office opens at 8:30."),
    ("number", "Support is open from 9 am to 5 pm.", "Support is open from 8 am to 5 pm."),
    ("number", "The discount is 10% for students.", "The discount is 15 percent for students."),
    ("date", "The sale ends on 3 May 2024.", "The sale ends on May 5, 2024."),
    ("date", "The contract was signed on 2023-01-31.", "The contract was signed on 31 January 2024."),
    ("negation", "The premium plan includes phone support.", "The premium plan does not include phone support."),
    ("negation", "Passwords are stored in plain text.", "Passwords aren't stored in plain text."),
    ("negation", "Never restart the router.", "Restart the router."),
    ("negation", "The API isn’t rate limited.", "The API is rate limited."),
    ("antonym", "Parking is free for guests.", "Parking is paid for guests."),
    ("antonym", "The data is encrypted at rest.", "The data is unencrypted at rest."),
    ("antonym", "A passport is required for the trip.", "A passport is optional for the trip."),
]

COMPATIBLE = [
    # the same in other words or units
    ("The warranty lasts one year.", "The warranty lasts 12 months."),
    ("The file may have 1,000 MB.", "The file may have 1 GB."),
    ("The sale ends on 3 May.", "The sale ends on May 3, 2024."),
    ("The connection is not safe.", "The connection is unsafe."),
    ("Delivery takes 3-5 days.", "Delivery takes 4 days."),
    ("Delivery takes between 3 and 5 days.", "Delivery takes 3 to 5 days."),
    ("The plan admits up to 10 users.", "The plan admits 8 users."),
    ("Refunds take about 14 days.", "Refunds take 15 days."),
    ("Refunds are processed within 14 days.", "Refunds take 10 days."),
    ("Not only the router but the modem must be restarted.", "The router and the modem must be restarted."),
    # other subjects
    ("The Pro plan costs $20 a month.", "The Basic plan costs $10 a month."),
    ("Shipping to Germany takes 3 days.", "Shipping to France takes 5 days."),
    ("Standard shipping takes 5 days.", "Express shipping takes 2 days."),
    ("Shipping takes 5 days for standard orders.", "Shipping takes 2 days for express orders."),
    ("Adults need 8 hours of sleep.", "Children need 10 hours of sleep."),
    ("Members pay $5.", "Guests pay $10."),
    ("The minimum length is 8.", "The maximum length is 64."),
    ("The first payment is due on 3 May.", "The second payment is due on 5 June."),
    ("The meeting is on Monday.", "The meeting is on Tuesday."),
    ("Paris is the capital of France since 987.", "Berlin is the capital of Germany since 1990."),
    ("It takes 5 days.", "It takes 7 days."),
    # names that hold a number
    ("Step 2 takes 5 minutes.", "Step 3 takes 10 minutes."),
    ("Windows 10 supports the printer.", "Windows 11 supports the printer."),
    ("Python 3.11 supports the syntax.", "Python 3.12 supports the syntax."),
    # other cases
    ("Refunds take 14 days.", "Refunds for digital goods take 2 days."),
    ("If you are a member, the fee is $5.", "The fee is $10."),
    ("If the light is red, do not restart the router.", "Restart the router."),
    ("You should not restart the router during the update.", "You should restart the router after the update."),
    ("No refunds are given after 30 days.", "Refunds are given within 30 days."),
    ("It is not available in 2023 in stores.", "It is available in 2024 in stores."),
    ("Passwords are stored encrypted, not in plain text.", "Passwords are not stored in plain text."),
    # steps are no opinions
    ("Open the lid.", "Close the lid."),
    ("Stop the server.", "Start the server."),
    ("Use 2 spoons of sugar.", "Add 3 eggs."),
]


@pytest.mark.parametrize(("kind", "one", "other"), CONTRADICTIONS)
def test_two_statements_about_one_thing_that_cannot_both_be_true_contradict(kind: str, one: str, other: str) -> None:
    assert understand(one).contradicts(understand(other)) == kind
    assert understand(other).contradicts(understand(one)) == kind


@pytest.mark.parametrize(("one", "other"), COMPATIBLE)
def test_statements_that_can_both_be_true_do_not_contradict(one: str, other: str) -> None:
    assert understand(one).contradicts(understand(other)) is None
    assert understand(other).contradicts(understand(one)) is None


WORDS = "the plan not never costs $5 10 days 3-5 GB up to at least about if router free paid 3 May 9:00 , . no"
SENTENCES = st.lists(st.sampled_from(sorted(set(re.findall(r"\S+", WORDS)))), max_size=12).map(" ".join)


@given(SENTENCES)
def test_no_statement_contradicts_itself(sentence: str) -> None:
    assert understand(sentence).contradicts(understand(sentence)) is None


@given(SENTENCES, SENTENCES)
def test_contradiction_is_mutual_and_excludes_agreement(one: str, other: str) -> None:
    a, b = understand(one), understand(other)
    assert a.contradicts(b) == b.contradicts(a)
    assert 0 <= a.covered_by(b) <= 1


def test_a_statement_is_covered_by_one_that_says_more() -> None:
    short, long = understand("Refunds take 14 days."), understand("Refunds take 14 days by bank transfer.")
    assert short.covered_by(long) == 1
    assert 0 < long.covered_by(short) < 1


@pytest.mark.parametrize(
    "other", ["Refunds take 30 days.", "Refunds take a while.", "Refunds do not take 14 days.", "Shipping is by bike."]
)
def test_a_statement_is_not_covered_without_its_numbers_or_against_its_sense(other: str) -> None:
    assert understand("Refunds take 14 days.").covered_by(understand(other)) == 0
