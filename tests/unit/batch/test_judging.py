from __future__ import annotations

import pytest

from rayflow.batch.judging import judged, question, verdict
from rayflow.batch.spec import Judging
from rayflow.chat import Message, ModelParams
from rayflow.errors import ExecutionError

BOTH = Judging("Was it polite?", ["good", "not good"], (1, 5))


def test_the_question_holds_the_instruction_the_conversation_and_how_to_answer() -> None:
    asked = question(BOTH, [Message("user", "hi"), Message("assistant", "go away")])
    assert asked.startswith("Was it polite?") and "user: hi\n\nassistant: go away" in asked
    assert "good, not good" in asked and "from 1 to 5" in asked and "label and score" in asked


def test_an_open_question_asks_for_no_shape() -> None:
    assert judged(ModelParams(seed=1), Judging("Summarise it.")) == ModelParams(seed=1)
    assert verdict(Judging("Summarise it."), "They greet.") == (None, None)


def test_the_endpoint_is_asked_for_json_of_just_that_shape_unless_the_user_said_so() -> None:
    wanted = judged(ModelParams(), BOTH).response_format
    assert wanted is not None
    schema = wanted["json_schema"]["schema"]
    assert schema["required"] == ["label", "score"] and schema["properties"]["label"]["enum"] == BOTH.labels
    own = ModelParams(response_format={"type": "json_object"})
    assert judged(own, BOTH) == own


@pytest.mark.parametrize(
    ("answer", "label", "score"),
    [
        ('{"label": "good", "score": 4}', "good", 4.0),
        ('Here it is:\n```json\n{"label": "Not good", "score": "2.5"}\n```', "not good", 2.5),
        ("I would say: not good. 1", "not good", 1.0),
    ],
)
def test_answers_are_read_as_json_and_as_words(answer: str, label: str, score: float) -> None:
    assert verdict(BOTH, answer) == (label, score)


@pytest.mark.parametrize(
    "answer", ["no idea", "goodness 3", '{"label": "good", "score": 9}', '{"score": 3}', '{"label": "good"}']
)
def test_an_answer_that_does_not_say_it_is_an_error(answer: str) -> None:
    with pytest.raises(ExecutionError):
        verdict(BOTH, answer)
