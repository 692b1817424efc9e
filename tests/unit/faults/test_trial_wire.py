"""Streams of events are taken apart as they come, in pieces of any size."""

from __future__ import annotations

from faults.wire import Events

STREAM = (
    b'id: 2\ndata: {"type":"event","event":"run.routed"}\n\n: keep-alive\n\n'
    b'id: 3\ndata: {"type":"token","content":"ab"}\n\nid: 4\ndata: {"type":"token","content":"c"}\n\n'
    b'data: {"type":"end"}\n\ndata: [DONE]\n\n'
)


def test_cut_anywhere_only_complete_events_count() -> None:
    for at in range(len(STREAM) + 1):
        events = Events()
        events.add(STREAM[:at])
        assert b"\n\n".join([*events.whole, b""]) in STREAM.replace(b": keep-alive\n\n", b"")
        assert events.complete == (at == len(STREAM))


def test_the_last_id_and_the_text_are_those_of_what_has_come() -> None:
    events = Events()
    assert (events.last_id, events.text) == (0, "")
    events.add(STREAM[:120])
    assert (events.last_id, events.text) == (3, "ab")
    events.add(STREAM[120:])
    assert (events.last_id, events.text, events.error) == (4, "abc", None)


def test_an_error_event_is_found() -> None:
    events = Events()
    events.add(b'data: {"type":"error","error":{"title":"no"}}\n\n')
    assert events.error == {"title": "no"}
    assert not events.complete
