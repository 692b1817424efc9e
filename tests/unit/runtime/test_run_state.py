"""A run's life and its trail: no step out of order, no number twice."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.chat import FunctionCall, Message, ModelReply, ToolCall, Usage
from rayflow.config.schema import ModelConfig
from rayflow.errors import ModelError, PeerLost, PoisonMessage, WorkflowError
from rayflow.events import EVENTS, Event
from rayflow.messages import AgentReply, Endpoint, Joined, RunRequest, Turn
from rayflow.messages.runs import ATTEMPT_NUMBERS, PART_ATTEMPTS
from rayflow.policies.prices import entry_of
from rayflow.policies.routing import Decision
from rayflow.runtime.calls import Call
from rayflow.runtime.part import PartState
from rayflow.runtime.run import TRANSITIONS, Run

ORDER = ("received", "enriched", "routed", "answered", "finished")


def a_run(*, stream: bool = True) -> Run:
    request = RunRequest("run_1", "sess_1", [Message("user", "hi")], tenant="t", stream=stream, channel="chat")
    return Run(request, "team", "router/0", 100.0)


def decision(*agents: str) -> Decision:
    return Decision(agents, 0.8, "keyword", "rule 'x': y")


def reply(text: str = "Hello.", last_seq: int = 0, **facts: object) -> AgentReply:
    return AgentReply(text, "stop", Usage(3, 2), "m", 12.0, ttft_ms=4.0, last_seq=last_seq, **facts)  # type: ignore[arg-type]


def routed(run: Run, *agents: str) -> list[Event]:
    begun = run.begin(1)
    run.enriched()
    return [begun, run.routed(decision(*agents), 2)]


def started(run: Run, part: PartState) -> Event:
    return run.part_started(part, f"agent/{part.agent}/0", 0.5, 101.0, 3)


def at(state: str) -> Run:
    """A run in that state."""
    run = a_run()
    run.begin(1)
    steps = {
        "enriched": run.enriched,
        "routed": lambda: run.routed(decision("a"), 1),
        "answered": lambda: (run.part_finished(run.parts[0], reply(), 1), run.answered()),
        "finished": lambda: run.finished(2, 101.0, 1),
    }
    for name in ORDER[1 : ORDER.index(state) + 1]:
        steps[name]()
    return run


def test_the_table_of_transitions_is_closed_and_ends_somewhere() -> None:
    assert {state for targets in TRANSITIONS.values() for state in targets} | {"received"} == TRANSITIONS.keys()
    assert {state for state, targets in TRANSITIONS.items() if not targets} == {"finished", "failed", "cancelled"}


@pytest.mark.parametrize("state", ORDER[:-1])
def test_a_run_may_fail_or_be_cancelled_at_every_step_but_the_last(state: str) -> None:
    failed = at(state).failed(ModelError("down"), 101.0, 5)
    assert (failed.kind, failed.status, failed.error, failed.duration_ms) == (
        "run.finished",
        "error",
        "model-failed",
        1000,
    )
    cancelled = at(state).cancelled("client left", 101.0, 5)
    assert (cancelled.status, cancelled.error_message) == ("cancelled", "client left")


@pytest.mark.parametrize("state", ORDER)
def test_no_step_can_be_taken_out_of_order(state: str) -> None:
    def enriched(run: Run) -> None:
        run.enriched()

    def route(run: Run) -> None:
        run.routed(decision("a"), 1)

    def finish(run: Run) -> None:
        run.finished(1, 101.0, 1)

    for target, step in (("enriched", enriched), ("routed", route), ("finished", finish)):
        if target not in TRANSITIONS[state]:  # type: ignore[index]
            with pytest.raises(WorkflowError, match=f"from {state} to {target}"):
                step(at(state))


def test_an_ended_run_cannot_end_again() -> None:
    run = at("finished")
    with pytest.raises(WorkflowError, match="from finished to failed"):
        run.failed(ModelError("late"), 102.0, 9)


def test_every_event_carries_the_runs_identity_and_a_documented_kind() -> None:
    run = a_run()
    events = routed(run, "a")
    events += [started(run, run.parts[0]), run.part_finished(run.parts[0], reply(), 4)]
    run.answered()
    events.append(run.finished(2, 101.0, 6)[1])
    assert {event.kind for event in events} <= EVENTS.keys()
    assert {(e.run_id, e.session_id, e.tenant, e.workflow, e.channel) for e in events} == {
        ("run_1", "sess_1", "t", "team", "chat")
    }


def test_the_result_of_one_agent_is_its_answer() -> None:
    run = a_run()
    routed(run, "a")
    started(run, run.parts[0])
    run.part_finished(run.parts[0], reply("Hi.", last_seq=6), 4)
    run.answered()
    assert run.answer() == Message("assistant", "Hi.")
    result, event = run.finished(2, 103.0, 6)
    assert (result.content, result.agents, result.streamed, result.turn) == ("Hi.", ["a"], "a", 2)
    assert result.duration_ms == 3000
    assert event.ttft_ms == 1004
    assert result.last_seq == event.seq == 8
    assert result.usage == Usage(3, 2)


def test_the_result_of_several_agents_is_what_was_joined() -> None:
    run = a_run()
    routed(run, "a", "b")
    for part in run.parts:
        started(run, part)
    run.part_finished(run.parts[0], reply("One."), 4)
    run.part_failed(run.parts[1], ModelError("down"), 102.0, 5)
    joined = Joined("One.", "merge", 0.5, ["a"], {"validation_rate": 0.5})
    run.answered(joined)
    assert run.aggregated(joined, 0.25, 6).duration_ms == 250
    result, _ = run.finished(2, 103.0, 7)
    assert (result.content, result.agents, result.streamed, result.finish_reason) == ("One.", ["a"], "", "stop")
    assert [(part.agent, part.status, part.error) for part in result.parts] == [
        ("a", "ok", ""),
        ("b", "error", "model-failed"),
    ]
    assert result.metadata == {"routing": "rule 'x': y", "validation_rate": 0.5}


def test_a_bare_tool_call_has_no_content_and_an_empty_answer_has_empty_content() -> None:
    call = ToolCall("call_1", FunctionCall("f", "{}"))
    for answer, expected in (
        (reply("", tool_calls=[call]), Message("assistant", None, tool_calls=[call])),
        (reply(""), Message("assistant", "")),
    ):
        run = a_run()
        routed(run, "a")
        run.part_finished(run.parts[0], answer, 4)
        run.answered()
        assert run.answer() == expected


def test_numbers_without_streams_are_consecutive() -> None:
    run = a_run(stream=False)
    events = routed(run, "a")
    events += [started(run, run.parts[0]), run.part_finished(run.parts[0], reply(), 4)]
    run.answered()
    events.append(run.finished(1, 101.0, 1)[1])
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]


def test_tokens_of_one_agent_stand_between_its_start_and_its_end() -> None:
    run = a_run()
    routed(run, "a")
    start = started(run, run.parts[0])
    first, step = run.token_numbers(run.parts[0])
    tokens = [first + i * step for i in range(5)]
    end = run.part_finished(run.parts[0], reply(last_seq=tokens[-1]), 4)
    assert [start.seq, *tokens, end.seq] == list(range(start.seq, start.seq + 7))


@given(st.integers(1, 5), st.integers())
def test_no_number_is_used_twice_however_parts_interleave(count: int, seed: int) -> None:
    """Replicas number their tokens by themselves while the router records events; some replicas die with their
    numbers."""
    rng = random.Random(seed)
    run = a_run()
    router = [event.seq for event in routed(run, *(f"agent{i}" for i in range(count)))]
    lanes: dict[str, itertools.count[int]] = {}
    tokens: dict[str, list[int]] = {}
    waiting, running = list(run.parts), list[PartState]()
    while waiting or running:
        act = rng.choice(["start"] * bool(waiting) + ["token", "token", "end", "die"] * bool(running))
        part = rng.choice(waiting if act == "start" else running)
        match act:
            case "start":
                waiting.remove(part)
                running.append(part)
                router.append(started(run, part).seq)
                lanes[part.agent] = itertools.count(*run.token_numbers(part))
                tokens[part.agent] = []
            case "token":
                tokens[part.agent] += [next(lanes[part.agent]) for _ in range(rng.randint(1, 9))]
            case "end":
                running.remove(part)
                last = tokens[part.agent][-1] if tokens[part.agent] else 0
                router.append(run.part_finished(part, reply(last_seq=last), 1).seq)
            case "die":
                running.remove(part)
                router.append(run.part_failed(part, PeerLost("gone"), 105.0, 1).seq)
    if any(part.reply for part in run.parts):
        joined = Joined("x", "merge", 1.0, []) if count > 1 else None
        run.answered(joined)
        if joined:
            router.append(run.aggregated(joined, 0.1, 1).seq)
        router.append(run.finished(2, 106.0, 1)[1].seq)
    else:
        router.append(run.failed(PeerLost("gone"), 106.0, 1).seq)
    used = [*router, *itertools.chain(*tokens.values())]
    assert len(used) == len(set(used))
    assert router == sorted(router)
    assert router[-1] == max(used), "the end of a run has its highest number"


def test_a_run_answered_earlier_ends_with_that_answer() -> None:
    run = a_run()
    run.begin(1)
    result, event = run.repeated(Turn(2, Message("assistant", "Hi."), "run_1", "a"), 103.0, 6)
    assert (result.content, result.finish_reason, result.agents, result.turn) == ("Hi.", "stop", ["a"], 2)
    assert (result.usage, result.metadata) == (Usage(), {"repeated": True})
    assert (event.kind, event.status, event.data) == ("run.repeated", "ok", {"agents": []})
    with pytest.raises(WorkflowError):
        run.enriched()


def test_a_run_that_another_router_had_answered_and_died_over_is_finished_by_the_next_one() -> None:
    run = Run(RunRequest("run_1", "sess_1", [Message("user", "hi")], attempt=1), "team", "router/1", 100.0)
    run.begin(1)
    _, event = run.repeated(Turn(2, Message("assistant", "Hi."), "run_1", "a"), 103.0, 6)
    assert event.kind == "run.finished", "the one that died has told nobody"


def test_attempts_of_a_part_are_numbered_across_all_askings() -> None:
    run = Run(RunRequest("run_1", "sess_1", [Message("user", "hi")], attempt=2), "team", "router/0", 100.0)
    assert routed(run, "a")[0].seq == 2 * ATTEMPT_NUMBERS + 1
    (part,) = run.parts
    assert run.attempt_number(part) == 2 * PART_ATTEMPTS + 1
    started(run, part)
    retried = run.part_retried(part, PeerLost("gone"), 0.1234, False, 4)
    assert (retried.replica, retried.error) == ("agent/a/0", "peer-lost")
    assert (retried.attempt, retried.data) == (2, {"delay_s": 0.123, "isolated": False})
    assert run.attempt_number(part) == 2 * PART_ATTEMPTS + 2
    assert started(run, part).attempt == 2


def test_a_part_says_who_took_it_over_and_from_whom() -> None:
    run = a_run()
    routed(run, "a")
    (part,) = run.parts
    started(run, part)
    moved = run.part_moved(part, "b", "large", ModelError("down"), 4)
    assert (moved.kind, moved.agent, moved.replica, moved.error) == (
        "agent.fallback", "a", "agent/a/0", "model-failed",
    )  # fmt: skip
    assert (moved.attempt, moved.data) == (2, {"agent": "b", "model": "large"})
    assert (part.agent, part.attempt, part.summary().instead_of) == ("b", 2, "a")
    assert not run.degraded


def test_an_answer_that_is_only_a_message_says_so() -> None:
    run = a_run()
    routed(run, "a")
    (part,) = run.parts
    event = run.part_degraded(part, ModelError("down"), 4)
    assert (event.kind, event.attempt, event.data) == ("agent.fallback", 1, {"degraded": True})
    run.part_finished(part, AgentReply("Sorry.", "stop", Usage(), "", 1.0), 5)
    run.answered()
    result, _ = run.finished(2, 101.0, 6)
    assert (result.content, result.finish_reason, result.metadata["degraded"]) == ("Sorry.", "stop", True)


LARGE = entry_of(ModelConfig(name="large", provider="openai", price_prompt=1e6, price_completion=2e6))


def test_a_part_that_ends_while_its_call_is_out_tells_of_that_call() -> None:
    run = a_run(stream=False)
    routed(run, "a", "b")
    late, cut = run.parts
    for part in run.parts:
        started(run, part)
        part.called = LARGE
    failed = run.part_failed(late, ModelError("left out"), 102.0, 4)
    assert (failed.model, failed.provider, failed.error, failed.cost_usd) == ("large", "openai", "model-failed", None)
    assert run.unended == [cut]
    cancelled = run.part_cut(cut, Usage(3, 2), 102.0, 5)
    assert (cancelled.model, cancelled.prompt_tokens, cancelled.cost_usd) == ("large", 3, 7.0)
    assert run.unended == []
    assert run.failed(ModelError("left out"), 102.0, 6).cost_usd == 7.0


def test_a_call_that_ended_is_not_told_again_by_the_end_of_its_part() -> None:
    run = a_run(stream=False)
    routed(run, "a")
    (part,) = run.parts
    started(run, part)
    part.called = LARGE
    call = Call(LARGE, "agent/a/0", 1, 0.5, 101.0)
    told = run.call_ended(part, call, ModelError("down"), Usage(1, 0), 101.5, 4)
    assert (told.kind, told.duration_ms, told.queue_ms, told.cost_usd) == ("model.finished", 500.0, 500.0, 1.0)
    assert run.part_failed(part, ModelError("down"), 102.0, 5).model == ""
    assert run.call_ended(part, call, None, None, 101.5, 6).status == "cancelled"


def test_calls_for_a_run_that_belong_to_no_part_have_a_purpose_and_a_price() -> None:
    run = a_run()
    judged = run.side_call(LARGE, "judge", Usage(2, 1), 0.25, 1)
    assert (judged.model, judged.status, judged.data, judged.cost_usd) == ("large", "ok", {"purpose": "judge"}, 4.0)
    chosen = run.side_call(LARGE, "routing", ModelReply("a", "stop", Usage(1, 1), "large-2026"), 0.25, 2)
    assert (chosen.model, chosen.finish_reason, chosen.agent) == ("large-2026", "stop", "")
    assert run.side_call(LARGE, "summary", None, 0.25, 3).status == "cancelled"
    assert run.cost_usd == 7.0


def test_the_speed_of_a_stream_counts_from_its_first_token() -> None:
    run = a_run()
    routed(run, "a")
    assert run.part_finished(run.parts[0], reply(), 4).tokens_per_s == pytest.approx(1 / 8 * 1000)


def test_events_say_where_their_router_was_and_to_which_trace_they_belong() -> None:
    request = RunRequest("run_1", "sess_1", [Message("user", "hi")], service_class="batch", job_id="j", item_id="i")
    at = Endpoint("router/0", "unix:/r", 3, "abc", "tcp:10.0.0.2:4242")
    run = Run(request, "team", "router/0", 100.0, f"00-{'a' * 32}-{'b' * 16}-01", at)
    begun = run.begin(1)
    assert (begun.epoch, begun.node, begun.trace_id, begun.span_id) == (3, "10.0.0.2", "a" * 32, "b" * 16)
    assert (begun.priority, begun.job_id, begun.item_id) == ("batch", "j", "i")
    assert a_run().begin(1).node == ""


def test_a_dead_letter_names_who_died() -> None:
    run = a_run()
    routed(run, "a")
    started(run, run.parts[0])
    letter = run.quarantined(run.parts[0], PoisonMessage("it kills", replicas=["agent/a/0"]), 5)
    assert (letter.kind, letter.error, letter.error_message) == ("run.quarantined", "poison-message", "it kills")
    assert (letter.attempt, letter.data) == (1, {"replicas": ["agent/a/0"]})


@pytest.mark.parametrize(
    ("facts", "agents", "client"),
    [
        ({"stream": True}, ("a",), "client/0"),
        ({"stream": False}, ("a",), ""),
        ({"stream": True}, ("a", "b"), ""),
        ({"stream": True, "progress": True}, ("a", "b"), "client/0"),
    ],
)
def test_tokens_of_several_parts_go_only_to_who_can_tell_them_apart(
    facts: dict[str, bool], agents: tuple[str, ...], client: str
) -> None:
    request = RunRequest("run_1", "sess_1", [Message("user", "hi")], client="client/0", **facts)
    run = Run(request, "team", "router/0", 100.0)
    routed(run, *agents)
    assert run.tokens_to(run.parts[0]) == client
