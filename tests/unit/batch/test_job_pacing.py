from __future__ import annotations

import pytest

from rayflow.batch.pacing import SHRINK, Purse, Rate, Window


def test_the_window_shrinks_once_for_refusals_that_come_together_and_grows_row_by_row() -> None:
    window = Window(100)
    for now in (0.0, 0.1, 0.9):
        window.refused(now)
    assert window.size == int(100 * SHRINK)
    window.refused(1.0)
    assert window.size == 49
    for _ in range(49):
        window.done()
    assert window.size == 49 or window.size == 50
    for _ in range(20_000):
        window.done()
    assert window.size == 100


def test_the_window_shrinks_to_what_is_worked_on_and_half_as_many_that_wait() -> None:
    window, places, served_s = Window(100), 16, 1.0
    sizes = []
    for n in range(20_000):
        now = n * served_s / places
        waiting = max(0, window.size - places)
        window.ran(now, waiting / places * served_s, served_s)
        window.done()
        sizes.append(window.size)
    assert all(places <= size <= 2 * places for size in sizes[5000:]), (min(sizes), max(sizes[5000:]))


def test_a_wait_of_some_milliseconds_is_no_queue() -> None:
    window = Window(100)
    for n in range(1000):
        window.ran(float(n), queued_s=0.015, served_s=0.001)
    assert window.size == 100


def test_the_window_never_closes() -> None:
    window = Window(2)
    for second in range(20):
        window.refused(float(second))
    assert window.size == 1


def test_a_rate_lets_a_second_go_at_once_and_then_keeps_its_pace() -> None:
    rate, now = Rate(10.0), 1000.0
    for _ in range(10):
        assert rate.wait_s(now) == pytest.approx(0.0)
        rate.use(now)
    assert rate.wait_s(now) == pytest.approx(0.1)
    assert rate.wait_s(now + 0.1) == pytest.approx(0.0)


def test_a_slow_rate_lets_one_go_and_then_the_next_after_its_time() -> None:
    rate = Rate(0.5)
    assert rate.wait_s(0.0) == 0.0
    rate.use(0.0)
    assert rate.wait_s(0.0) == pytest.approx(2.0)


def test_what_was_used_beyond_what_was_expected_is_waited_for() -> None:
    rate = Rate(100.0)
    rate.use(0.0, 50)
    rate.correct(+150)
    assert rate.wait_s(0.0) == pytest.approx(1.01)
    rate.correct(-150)
    assert rate.wait_s(0.0) == 0.0


def test_a_purse_sets_aside_what_rows_cost_and_never_more_than_it_holds() -> None:
    purse = Purse(10.0, spent=2.0, guess=4.0)
    assert [purse.reserve(), purse.reserve(), purse.reserve()] == [4.0, 4.0, None]
    purse.settle(4.0, 1.0)
    assert purse.reserve() == 1.0
    purse.release(1.0)
    purse.settle(4.0, 7.0)
    assert purse.reserve() is None
