"""The checker must reject every kind of broken history, and no sound one."""

from __future__ import annotations

from dataclasses import replace

from faults.answers import pieces
from faults.checker import Findings, Turn, check
from faults.operations import Operation, Outcome

SESSION = "s-1"


def asked(n: int, outcome: Outcome = Outcome.OK, code: str = "", agents: tuple[str, ...] = ("alpha",)) -> Operation:
    question = f"turn {n} of {SESSION} for alpha"
    operation = Operation(SESSION, n, question, agents, streamed=False, outcome=outcome, code=code)
    if outcome is Outcome.OK:
        operation.answer = answer(operation)
    return operation


def answer(operation: Operation) -> str:
    texts = ["".join(pieces(agent, 1, operation.question)) for agent in operation.agents]
    return texts[0] if len(texts) == 1 else "\n\n".join(f"**x**: {text}" for text in texts)


def turns(operation: Operation) -> list[Turn]:
    return [Turn("user", operation.question), Turn("assistant", answer(operation))]


def found(operations: list[Operation], history: list[Turn]) -> dict[str, int]:
    """The kinds of violations, and how many of each."""
    findings: Findings = check(operations, {SESSION: history})
    return {kind: count for kind, count in findings.counts().items() if count}


def test_a_sound_history_has_no_violations() -> None:
    first, second = asked(1), asked(2, agents=("alpha", "beta"))
    assert found([first, second], [*turns(first), *turns(second)]) == {}


def test_an_acknowledged_turn_that_is_missing_is_lost() -> None:
    first, second = asked(1), asked(2)
    assert found([first, second], turns(first)) == {"lost": 1}


def test_a_session_without_a_history_has_lost_everything() -> None:
    assert check([asked(1), asked(2)], {}).counts()["lost"] == 2


def test_an_acknowledged_question_without_its_answer_is_lost() -> None:
    first = asked(1)
    assert found([first], turns(first)[:1]) == {"lost": 1}


def test_an_answer_that_is_only_kept_in_part_is_lost() -> None:
    first = asked(1)
    question, said = turns(first)
    assert found([first], [question, replace(said, status="partial")]) == {"lost": 1}


def test_an_acknowledged_turn_that_is_there_twice_is_duplicated() -> None:
    first = asked(1)
    assert found([first], [*turns(first), *turns(first)]) == {"duplicated": 1}


def test_a_question_that_was_written_again_before_its_answer_is_duplicated() -> None:
    first = asked(1)
    assert found([first], [turns(first)[0], *turns(first)]) == {"duplicated": 1}


def test_an_unknown_turn_may_be_there_once_or_not_at_all() -> None:
    unknown = asked(1, Outcome.UNKNOWN)
    assert found([unknown], []) == {}
    assert found([unknown], turns(unknown)) == {}
    assert found([unknown], [*turns(unknown), *turns(unknown)]) == {"duplicated": 1}


def test_a_later_turn_before_an_earlier_one_is_reordered() -> None:
    first, second, third = asked(1), asked(2), asked(3)
    assert found([first, second, third], [*turns(first), *turns(third), *turns(second)]) == {"reordered": 1}


def test_turns_that_are_interleaved_are_found() -> None:
    first, second = asked(1), asked(2)
    (q1, a1), (q2, a2) = turns(first), turns(second)
    assert found([first, second], [q1, q2, a1, a2]) == {"lost": 1, "interleaved": 1, "wrong": 1}


def test_a_second_answer_to_one_question_is_found() -> None:
    first = asked(1)
    question, said = turns(first)
    assert found([first], [question, said, said]) == {"interleaved": 1}


def test_an_answer_that_differs_from_what_the_client_got_is_wrong() -> None:
    first = asked(1)
    question, said = turns(first)
    assert found([first], [question, replace(said, content=said.content + " more")]) == {"wrong": 1}


def test_the_answer_to_another_question_is_wrong_even_where_both_sides_agree_on_it() -> None:
    first, other = asked(1), asked(2)
    first.answer = answer(other)
    assert found([first], [turns(first)[0], turns(other)[1]]) == {"wrong": 1}


def test_a_cut_answer_is_wrong_even_where_both_sides_agree_on_it() -> None:
    first = asked(1)
    first.answer = first.answer[:-3]
    assert found([first], [turns(first)[0], Turn("assistant", first.answer)]) == {"wrong": 1}


def test_an_answer_of_one_of_two_agents_is_partial() -> None:
    both = asked(1, agents=("alpha", "beta"))
    both.answer = "".join(pieces("beta", 1, both.question))
    assert found([both], [turns(both)[0], Turn("assistant", both.answer)]) == {"partial": 1}


def test_a_failed_turn_may_have_left_its_question_and_no_complete_answer() -> None:
    failed = asked(1, Outcome.FAIL, "model-failed")
    question, said = turns(failed)
    assert found([failed], []) == {}
    assert found([failed], [question]) == {}
    assert found([failed], [question, replace(said, status="partial")]) == {}
    assert found([failed], [question, said]) == {"revived": 1}


def test_a_cut_stream_with_a_complete_answer_is_found() -> None:
    cut = asked(1, Outcome.STREAM_ERROR, "model-incomplete")
    assert found([cut], turns(cut)) == {"revived": 1}


def test_an_error_that_names_its_outcome_unknown_may_have_left_a_turn() -> None:
    lost = asked(1, Outcome.FAIL, "peer-lost")
    assert found([lost], turns(lost)) == {}
    assert found([lost], [*turns(lost), *turns(lost)]) == {"duplicated": 1}


def test_a_question_that_nobody_asked_in_this_session_is_foreign() -> None:
    first = asked(1)
    stranger = [Turn("user", "turn 1 of s-2 for alpha"), Turn("assistant", "hello")]
    assert found([first], [*turns(first), *stranger]) == {"foreign": 1}


def test_a_finding_names_its_question() -> None:
    assert check([asked(7)], {}).examples() == {"lost": ["turn 7 of s-1 for alpha"]}
