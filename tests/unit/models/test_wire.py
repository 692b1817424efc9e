"""An answer counts only when it is whole."""

from __future__ import annotations

import pytest

from rayflow.chat import Usage
from rayflow.errors import ModelError, ModelIncomplete
from rayflow.models.upstream import Upstream
from rayflow.models.wire import StreamedAnswer, read_completion

UPSTREAM = Upstream("m", "http://host/v1", "sk-key")


def delta(text: str, finish: str = "null") -> bytes:
    return f'{{"choices": [{{"index": 0, "delta": {{"content": "{text}"}}, "finish_reason": {finish}}}]}}'.encode()


def test_events_of_one_read_become_one_piece() -> None:
    answer = StreamedAnswer(UPSTREAM, 100)
    chunk = answer.take([delta("a"), delta("b")])
    assert chunk is not None
    assert chunk.text == "ab"
    assert answer.partial == "ab"


def test_the_finish_reason_comes_with_the_text_it_came_with() -> None:
    answer = StreamedAnswer(UPSTREAM, 100)
    first, last = answer.take([delta("a")]), answer.take([delta("b"), delta("", '"stop"'), b"[DONE]"])
    assert first is not None
    assert last is not None
    assert (first.finish_reason, last.finish_reason, last.text) == (None, "stop", "b")


def test_a_role_is_no_sign_of_life_but_reasoning_is() -> None:
    answer = StreamedAnswer(UPSTREAM, 100)
    assert answer.take([b'{"choices": [{"delta": {"role": "assistant", "content": ""}}]}']) is None
    assert not answer.started
    assert answer.take([b'{"choices": [{"delta": {"reasoning_content": "hm"}}]}']) is None
    assert answer.started


def test_other_choices_are_not_mixed_in() -> None:
    answer = StreamedAnswer(UPSTREAM, 100)
    assert answer.take([b'{"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}]}']) is None
    assert not answer.finished


def test_a_stream_says_once_who_answers_and_at_the_end_what_it_took() -> None:
    answer = StreamedAnswer(UPSTREAM, 100)
    details = '"prompt_tokens_details": {"cached_tokens": 6}, "completion_tokens_details": {"reasoning_tokens": 2}'
    first = b'{"id": "resp_1", "model": "m-2026", "choices": [{"index": 0, "delta": {"content": "a"}}]}'
    last = f'{{"choices": [], "usage": {{"prompt_tokens": 8, "completion_tokens": 3, {details}}}}}'.encode()
    answer.take([first, delta("b", '"stop"'), last])
    end = answer.end()
    assert (end.model, end.response_id) == ("m-2026", "resp_1")
    assert end.usage == Usage(8, 3, cached_tokens=6, reasoning_tokens=2)


def test_an_endpoint_that_does_not_say_who_answers_is_taken_at_its_configured_name() -> None:
    answer = StreamedAnswer(UPSTREAM, 100)
    answer.take([b'{"id": 7, "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}'])
    assert (answer.end().model, answer.end().response_id) == ("m", "")


@pytest.mark.parametrize("details", ["[]", "null", '"many"', '{"cached_tokens": 1.5}', "{}"])
def test_details_of_another_shape_do_not_spoil_an_answer(details: str) -> None:
    body = (
        '{"id": null, "choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],'
        f' "usage": {{"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {details}}}}}'
    )
    reply = read_completion(body.encode(), UPSTREAM, 10)
    assert (reply.usage, reply.response_id) == (Usage(5, 1), "")


def test_what_follows_done_is_not_read() -> None:
    answer = StreamedAnswer(UPSTREAM, 100)
    answer.take([delta("a", '"stop"'), b"[DONE]", b"not json"])
    assert answer.take([b"not json either"]) is None
    assert answer.done
    assert answer.end().finish_reason == "stop"


def test_missing_usage_is_estimated_from_bytes() -> None:
    answer = StreamedAnswer(UPSTREAM, 101)
    answer.take([delta("12345", '"length"')])
    usage = answer.end().usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (26, 2, True)


def test_the_names_other_endpoints_use_for_finish_reasons_are_understood() -> None:
    for said, meant in (("end_turn", "stop"), ("max_tokens", "length"), ("function_call", "tool_calls")):
        answer = StreamedAnswer(UPSTREAM, 1)
        answer.take([delta("a", f'"{said}"')])
        assert answer.end().finish_reason == meant


def test_done_without_a_finish_reason_is_incomplete() -> None:
    answer = StreamedAnswer(UPSTREAM, 1)
    answer.take([delta("a"), b"[DONE]"])
    with pytest.raises(ModelIncomplete) as raised:
        answer.end()
    assert raised.value.details == {"model": "m", "partial": "a"}


def test_a_refusal_is_the_answers_text() -> None:
    body = b'{"choices": [{"message": {"role": "assistant", "refusal": "I may not"}, "finish_reason": "stop"}]}'
    assert read_completion(body, UPSTREAM, 1).text == "I may not"


def test_an_error_object_with_status_200_is_an_error_with_its_words() -> None:
    with pytest.raises(ModelError, match="quota"):
        read_completion(b'{"error": {"message": "quota"}}', UPSTREAM, 1)


@pytest.mark.parametrize("body", [b"", b"null", b"\xff\xfe", b'{"choices": [{}]}', b'{"choices": [{"message": "x"}]}'])
def test_anything_but_a_completion_is_an_error(body: bytes) -> None:
    with pytest.raises(ModelError):
        read_completion(body, UPSTREAM, 1)
