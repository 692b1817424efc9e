"""Which runs are traced, and what their spans are called."""

from __future__ import annotations

from rayflow.ids import new_run_id
from rayflow.tracing import Tracing, agent_span, call_span, child, is_sampled, run_span

CLIENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_run_hangs_on_the_span_of_its_client() -> None:
    parent, own = Tracing(0.0).begin(CLIENT, "run_1", 0)
    assert parent == CLIENT
    assert own == f"00-4bf92f3577b34da6a3ce929d0e0e4736-{run_span('run_1', 0)}-01"


def test_what_the_client_decided_stands() -> None:
    _, own = Tracing(1.0).begin(CLIENT[:-2] + "00", "run_1", 0)
    assert not is_sampled(own)


def test_without_a_client_a_trace_begins() -> None:
    parent, own = Tracing(1.0).begin("", "run_1", 0)
    _, trace_id, nothing, flags = parent.split("-")
    assert (len(trace_id), nothing, flags) == (32, "", "01")
    assert own == f"00-{trace_id}-{run_span('run_1', 0)}-01"
    assert Tracing(1.0).begin("", "run_2", 0)[0] != parent


def test_a_share_of_the_runs_is_traced() -> None:
    tracing = Tracing(0.25)
    traced = sum(is_sampled(tracing.begin("", new_run_id(), 0)[0]) for _ in range(4000))
    assert 800 < traced < 1200
    assert not is_sampled(Tracing(0.0).begin("", "run_1", 0)[0])


def test_every_span_has_a_name_of_its_own() -> None:
    names = {
        run_span("run_1", 0), run_span("run_1", 1), run_span("run_2", 0),
        agent_span("run_1", 0, "a"), agent_span("run_1", 1, "a"), agent_span("run_1", 0, "b"),
        call_span("run_1", "a", 1, "agent/a/0"), call_span("run_1", "a", 2, "agent/a/0"),
        call_span("run_1", "a", 1, "agent/a/1"), call_span("run_1", "b", 1, "agent/a/0"),
    }  # fmt: skip
    assert len(names) == 10
    assert all(len(name) == 16 and int(name, 16) for name in names)


def test_later_versions_of_the_header_may_say_more() -> None:
    assert child("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", "aa" * 8).endswith("aaaa-01")
