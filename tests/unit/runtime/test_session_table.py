"""One writer for each session, the others in line; idle windows are kept up to a number."""

from __future__ import annotations

from collections import OrderedDict, deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rayflow.chat import Message
from rayflow.runtime.session import SessionSlot, SessionTable

KEY = ("tenant", "session")


def test_the_second_run_waits_for_the_first() -> None:
    table = SessionTable(cached=10)
    assert table.enter(KEY, "one") is table.slot(KEY)
    assert table.enter(KEY, "two") is None
    assert table.leave(KEY) == "two"
    assert table.slot(KEY).writer == "two"
    assert table.leave(KEY) is None


def test_the_line_has_an_end() -> None:
    table = SessionTable(cached=10, max_waiting=2)
    for run in ("writer", "a", "b"):
        table.enter(KEY, run)
    with pytest.raises(OverflowError, match="2 runs already wait"):
        table.enter(KEY, "c")
    table.validate()


def test_a_run_that_gave_up_is_passed_over() -> None:
    table = SessionTable(cached=10)
    for run in ("writer", "a", "b"):
        table.enter(KEY, run)
    table.abandon(KEY, "a")
    table.abandon(KEY, "unknown")
    table.abandon(("other", "session"), "a")
    assert table.leave(KEY) == "b"


def test_tenants_with_one_session_id_do_not_meet() -> None:
    table = SessionTable(cached=10)
    assert table.enter(("one", "s"), "a") is not None
    assert table.enter(("two", "s"), "b") is not None


def test_what_is_known_of_a_session_lasts_until_it_is_dropped() -> None:
    table = SessionTable(cached=10)
    slot = table.enter(KEY, "one")
    assert slot is not None
    slot.window = deque(maxlen=2)
    slot.remember([Message("user", "a"), Message("assistant", "b"), Message("user", "c")], 3)
    table.leave(KEY)
    again = table.enter(KEY, "two")
    assert again is slot
    assert [message.content for message in slot.window] == ["b", "c"]
    assert slot.last_seq == 3
    table.drop(KEY)
    table.drop(("never", "seen"))
    assert (slot.window, slot.last_seq) == (None, -1)


def test_a_window_that_was_never_read_is_not_begun_in_the_middle() -> None:
    slot = SessionSlot()
    slot.remember([Message("user", "a")], 7)
    assert slot.window is None
    assert slot.last_seq == 7


def test_the_session_idle_for_longest_is_forgotten_first() -> None:
    table = SessionTable(cached=2)
    for name in "abac":
        table.enter(("", name), "run")
        table.leave(("", name))
    assert len(table) == 2
    table.slot(("", "a"))
    table.slot(("", "c"))


def test_with_no_room_for_idle_sessions_busy_ones_still_work() -> None:
    table = SessionTable(cached=0)
    table.enter(KEY, "one")
    assert len(table) == 1
    table.leave(KEY)
    assert len(table) == 0


class SessionMachine(RuleBasedStateMachine):
    """Many runs in few sessions. The model: writer and line of each busy session, and the idle ones by age."""

    CACHED, WAITING = 2, 2
    keys = st.sampled_from([("", name) for name in "abcd"])

    def __init__(self) -> None:
        super().__init__()
        self.table = SessionTable(self.CACHED, self.WAITING)
        self.busy: dict[tuple[str, str], list[str]] = {}
        self.idle: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.count = 0

    @rule(key=keys)
    def enter(self, key: tuple[str, str]) -> None:
        self.count += 1
        run = str(self.count)
        line = self.busy.get(key)
        if line is None:
            assert self.table.enter(key, run) is self.table.slot(key)
            self.busy[key] = [run]
            self.idle.pop(key, None)
        elif len(line) <= self.WAITING:
            assert self.table.enter(key, run) is None
            line.append(run)
        else:
            with pytest.raises(OverflowError):
                self.table.enter(key, run)

    @precondition(lambda self: self.busy)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.busy)))
        line = self.busy[key]
        line.pop(0)
        assert self.table.leave(key) == (line[0] if line else None)
        if not line:
            del self.busy[key]
            self.idle[key] = None
            while len(self.idle) > self.CACHED:
                self.idle.popitem(last=False)

    @precondition(lambda self: any(len(line) > 1 for line in self.busy.values()))
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(key for key, line in self.busy.items() if len(line) > 1)))
        run = data.draw(st.sampled_from(self.busy[key][1:]))
        self.busy[key].remove(run)
        self.table.abandon(key, run)

    @rule(key=keys)
    def drop(self, key: tuple[str, str]) -> None:
        self.table.drop(key)

    @invariant()
    def holds(self) -> None:
        self.table.validate()
        assert len(self.table) == len(self.busy) + len(self.idle)
        for key, line in self.busy.items():
            assert self.table.slot(key).writer == line[0]
            assert list(self.table.slot(key).waiting) == line[1:]


TestSessionMachine = SessionMachine.TestCase
TestSessionMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
