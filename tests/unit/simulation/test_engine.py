from __future__ import annotations

from rayflow.simulation.engine import Engine


def test_events_happen_in_order_of_time_and_those_of_one_moment_in_order_of_planning() -> None:
    engine, seen = Engine(), []
    for when, name in ((2.0, "c"), (1.0, "a"), (2.0, "d"), (1.0, "b")):
        engine.at(when, seen.append, name)
    engine.run()
    assert seen == ["a", "b", "c", "d"]
    assert engine.now == 2.0


def test_an_event_may_plan_others_also_for_this_very_moment() -> None:
    engine, seen = Engine(), []

    def again(left: int) -> None:
        seen.append((engine.now, left))
        if left:
            engine.at(engine.now + (left % 2), again, left - 1)

    engine.at(1.0, again, 3)
    engine.run()
    assert seen == [(1.0, 3), (2.0, 2), (2.0, 1), (3.0, 0)]


def test_the_clock_stops_at_the_moment_given_and_goes_on_from_there() -> None:
    engine, seen = Engine(), []
    engine.at(1.0, seen.append, 1)
    engine.at(5.0, seen.append, 5)
    engine.run(until=3.0)
    assert (seen, engine.now) == ([1], 3.0)
    engine.run()
    assert (seen, engine.now) == ([1, 5], 5.0)


def test_what_is_planned_for_the_past_happens_now() -> None:
    engine, seen = Engine(), []
    engine.at(4.0, lambda: engine.at(1.0, lambda: seen.append(engine.now)))
    engine.run()
    assert seen == [4.0]
