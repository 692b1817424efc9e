"""How many replicas: every strategy and every common rule, in virtual time."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pools_in_time import Run, steady, stepping

from rayflow.config.schema import Replicas, ScalingConfig, Schedule
from rayflow.errors import ConfigurationError
from rayflow.policies.scaling import Load, Scaler, Target, can_scale
from rayflow.policies.scaling.holt import Holt
from rayflow.policies.scaling.schedule import active, scheduled
from rayflow.policies.scaling.window import Window

MONDAY = 4 * 86_400.0
"""1970-01-05 was one."""
SCALING = ["queue_depth", "target_concurrency", "predictive"]


def scaler(strategy: str, *, min: int = 1, max: int = 10, places: int = 4, **options: Any) -> Scaler:
    replicas = Replicas(min=min, max=max, max_in_flight=places)
    return Scaler(replicas, ScalingConfig(strategy=strategy, **options))


def after(made: Scaler, seconds: float, load: Load, start: float = 0.0) -> Target:
    """What it says when the load has been this for so long."""
    target = made.decide(load, start, start)
    for tick in range(1, int(seconds * 2) + 1):
        target = made.decide(load, start + tick / 2, start + tick / 2)
    return target


# --- strategies ---


@pytest.mark.parametrize(("waiting", "replicas"), [(0, 2), (9, 2), (14, 2), (15, 3), (49, 9), (50, 10), (5000, 10)])
def test_queue_depth_has_one_replica_for_five_waiting_calls_between_two_and_ten(waiting: int, replicas: int) -> None:
    target = scaler("queue_depth", min=2).decide(Load(2, waiting=waiting), 0.0, 0.0)
    assert target.replicas == replicas


def test_queue_depth_keeps_the_replicas_that_are_needed_for_the_calls_under_way() -> None:
    made = scaler("queue_depth", down_delay_s=5.0)
    assert after(made, 60, Load(5, in_flight=14)).replicas == 5, "14 and their square root need 5 times 4 places"
    assert after(made, 60, Load(5, in_flight=5), start=100).replicas == 2


def test_target_concurrency_wants_replicas_busy_to_their_target() -> None:
    target = after(scaler("target_concurrency", target=0.5), 60, Load(6, in_flight=9))
    assert target == Target(6, "9.0 calls over 60 s, 2 a replica")
    assert after(scaler("target_concurrency", target=0.5), 60, Load(2, in_flight=8, waiting=1)).replicas == 5


def test_a_panic_follows_the_short_window_and_shrinks_nothing_until_it_is_over() -> None:
    made = scaler("target_concurrency", target=1.0, down_delay_s=1.0)
    assert after(made, 60, Load(2, in_flight=6)).replicas == 2
    burst = after(made, 3, Load(2, in_flight=8, waiting=24), start=60.5)
    assert burst.replicas >= 4
    assert burst.reason.startswith("panic")
    calm = after(made, 50, Load(8, in_flight=6), start=64.0)
    assert calm.replicas == 8, "still within a stable window of its cause"
    assert after(made, 80, Load(8, in_flight=6), start=115).replicas < 8


def test_predictive_orders_ahead_of_a_ramp() -> None:
    """Load that grows by 4 calls every 10 s, and replicas that take 10 s to start."""
    seen = {}
    for strategy in ("target_concurrency", "predictive"):
        made = scaler(strategy, max=50, target=1.0, start_up_s=10.0, panic_threshold=100.0)
        for tick in range(240):
            ready = max(1, tick // 20)
            seen[strategy] = made.decide(Load(ready, in_flight=tick // 5), tick / 2, 0.0).replicas
    needed_in_ten_seconds = (240 // 5 + 4) / 4
    assert seen["predictive"] >= needed_in_ten_seconds > seen["target_concurrency"]


def test_holt_finds_a_line_whatever_the_distance_of_its_points() -> None:
    rng, holt, now = random.Random(1), Holt(5.0, 10.0), 0.0
    for _ in range(400):
        now += rng.uniform(0.1, 1.0)
        holt.add(3.0 + 0.5 * now, now)
    assert holt.ahead(10.0) == pytest.approx(3.0 + 0.5 * (now + 10.0), rel=0.02)
    assert holt.trend == pytest.approx(0.5, rel=0.02)


def test_a_forecast_is_never_negative() -> None:
    holt = Holt(1.0, 1.0)
    for second in range(10):
        holt.add(10.0 - second, float(second))
    assert holt.ahead(100.0) == 0.0


def test_a_window_weighs_by_time_and_forgets() -> None:
    window = Window(10.0)
    assert window.add(8.0, 0.0) == 8.0
    assert window.add(2.0, 1.0) == 2.0
    assert window.add(6.0, 4.0) == pytest.approx((2.0 + 3 * 6.0) / 4)
    assert window.add(0.0, 100.0) == 0.0


# --- the common rules ---


@pytest.mark.parametrize("strategy", SCALING)
def test_a_call_that_has_waited_too_long_brings_one_more_but_not_a_second_one_while_that_starts(strategy: str) -> None:
    made = scaler(strategy, queue_age_s=1.0)
    assert made.decide(Load(2, in_flight=1, waiting=1, oldest_s=0.9), 0.0, 0.0).replicas <= 2
    old = made.decide(Load(2, in_flight=1, waiting=1, oldest_s=1.2), 0.5, 0.0)
    assert old == Target(3, "a call has waited for 1.2 s")
    assert made.decide(Load(2, 1, in_flight=1, waiting=1, oldest_s=1.7), 1.0, 0.0).replicas == 3
    assert made.decide(Load(3, 0, in_flight=1, waiting=1, oldest_s=2.2), 1.5, 0.0).replicas == 4


@pytest.mark.parametrize("strategy", SCALING)
def test_a_pool_shrinks_only_when_it_has_been_too_large_for_the_whole_delay(strategy: str) -> None:
    made = scaler(strategy, max=8, down_delay_s=30.0, stable_window_s=5.0, panic_window_s=1.0)
    after(made, 20, Load(8, in_flight=28))
    assert after(made, 29, Load(8), start=20.5).replicas == 8
    assert after(made, 6, Load(8, in_flight=28), start=50).replicas == 8
    assert after(made, 29, Load(8), start=56.5).replicas == 8, "the delay has begun anew"
    shrunk = after(made, 20, Load(8), start=86)
    assert shrunk.replicas == 4, "divided by no more than max_down"
    assert "less load for 30 s" in shrunk.reason


def test_a_pool_grows_by_no_more_than_max_up_at_once() -> None:
    assert scaler("queue_depth", max=100, max_up=3.0).decide(Load(2, waiting=500), 0.0, 0.0).replicas == 6


@pytest.mark.parametrize("strategy", SCALING)
def test_from_zero_the_first_call_brings_a_replica_and_back_to_zero_goes_who_has_nothing_to_do(strategy: str) -> None:
    made = scaler(strategy, min=0, down_delay_s=30.0)
    assert after(made, 10, Load(0)).replicas == 0
    assert made.decide(Load(0, waiting=1, arrived=1), 10.5, 0.0).replicas == 1
    idle = Load(1, arrived=1, finished=1)
    assert after(made, 29, idle, start=11.0).replicas == 1
    assert after(made, 200, idle, start=41.0).replicas == 0


def test_calls_that_come_and_go_between_two_looks_keep_a_pool_from_zero() -> None:
    made = scaler("queue_depth", min=0, down_delay_s=10.0)
    for second in range(60):
        assert made.decide(Load(1, arrived=second), float(second), 0.0).replicas == 1


def test_staffing_keeps_spare_places_by_the_square_root_of_the_load() -> None:
    lean = after(scaler("queue_depth", places=1, max=50), 60, Load(1, in_flight=16))
    safe = after(scaler("queue_depth", places=1, max=50, staffing=2.0), 60, Load(30, in_flight=16))
    assert lean.replicas == 1
    assert safe.replicas >= 16 + 2 * 4
    grown = after(scaler("queue_depth", places=1, max=50, staffing=2.0), 60, Load(20, in_flight=16))
    assert grown == Target(24, "staffing for 16.0 + 8.0 calls")


def test_slow_responses_make_a_pool_grow_by_half_once_a_window() -> None:
    made = scaler("queue_depth", slow_response_ms=5000.0, slow_factor=1.5, stable_window_s=60.0)
    sizes, size = [], 4
    for second in range(130):
        load = Load(size, in_flight=14, finished=second, response_s=second * 6.0)
        target = made.decide(load, float(second), 0.0)
        if target.replicas != size:
            sizes.append((second, target.replicas, target.reason))
            size = target.replicas
    assert [replicas for _, replicas, _ in sizes] == [6, 9, 10]
    assert sizes[1][0] - sizes[0][0] == 60
    assert sizes[0][2] == "responses take 6.0 s"


def test_fast_responses_and_too_few_responses_change_nothing() -> None:
    for finished, each in ((100, 4.9), (4, 60.0)):
        made = scaler("queue_depth", slow_response_ms=5000.0)
        made.decide(Load(4, in_flight=9), 0.0, 0.0)
        load = Load(4, in_flight=9, finished=finished, response_s=finished * each)
        assert made.decide(load, 1.0, 0.0).replicas == 4


def test_a_schedule_keeps_a_pool_larger_at_its_time() -> None:
    made = scaler("queue_depth", schedules=[Schedule(days=["mon"], start="08:00", end="18:00", min=5)])
    assert made.decide(Load(1), 0.0, MONDAY + 7.9 * 3600).replicas == 1
    assert made.decide(Load(1), 1.0, MONDAY + 8 * 3600) == Target(5, "by schedule")
    assert (
        scaler("queue_depth", max=3, schedules=[Schedule(start="00:00", end="00:00", min=5)])
        .decide(Load(1), 0.0, MONDAY)
        .replicas
        == 3
    )


@pytest.mark.parametrize(
    ("days", "start", "end", "hours_since_monday", "on"),
    [
        (["mon"], "22:00", "06:00", 23, True),
        (["mon"], "22:00", "06:00", 24 + 5, True),
        (["mon"], "22:00", "06:00", 5, False),
        (["mon"], "22:00", "06:00", 24 + 6, False),
        (["mon"], "22:00", "06:00", 24 + 22, False),
        (["sun"], "22:00", "06:00", 5, True),
        ([], "09:00", "10:00", 9.5, True),
        ([], "09:00", "10:00", 10, False),
        (["tue"], "00:00", "00:00", 24 + 12, True),
        (["tue"], "00:00", "00:00", 12, False),
    ],
)
def test_times_of_the_week(days: list[Any], start: str, end: str, hours_since_monday: float, on: bool) -> None:
    schedule = Schedule(days=days, start=start, end=end, min=3)
    assert active(schedule, MONDAY + hours_since_monday * 3600) is on
    assert scheduled([schedule], MONDAY + hours_since_monday * 3600) == (3 if on else 0)


# --- by hand ---


def test_manual_stays_where_it_was_put() -> None:
    made = scaler("manual", min=2)
    assert made.decide(Load(2, waiting=500, oldest_s=60.0), 0.0, 0.0).replicas == 2
    assert made.by_hand(50, 1.0) == Target(10, "by hand")
    assert after(made, 100, Load(10), start=2.0).replicas == 10
    assert not can_scale(Replicas(min=2, max=10), ScalingConfig(strategy="manual"))
    assert not can_scale(Replicas(min=2, max=2), ScalingConfig())
    assert can_scale(Replicas(min=0, max=1), ScalingConfig())


@pytest.mark.parametrize("strategy", SCALING)
def test_what_was_set_by_hand_is_kept_for_the_delay_and_does_not_stop_growth(strategy: str) -> None:
    made = scaler(strategy, down_delay_s=30.0)
    made.by_hand(6, 0.0)
    assert after(made, 29, Load(6), start=0.5).replicas == 6
    assert made.decide(Load(6, in_flight=24, waiting=10, oldest_s=5.0), 30.0, 0.0).replicas > 6
    made = scaler(strategy, down_delay_s=30.0)
    made.by_hand(6, 0.0)
    assert after(made, 60, Load(6), start=0.5).replicas < 6


# --- policies of one's own ---

OWN = """
from rayflow.policies.scaling import Target


class PerCall:
    def __init__(self, calls=2):
        self.calls = calls

    def __call__(self, load, now):
        if load.waiting == 13:
            raise RuntimeError("no decision on thirteen")
        return Target(load.concurrency // self.calls, "by calls")


def three(load, now):
    return 3


def nonsense(load, now):
    return "many"


def negative(load, now):
    return -1
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    file = tmp_path / "own_scaling.py"
    file.write_text(OWN)
    return str(file)


def test_a_policy_of_ones_own_decides_within_the_common_rules(own: str) -> None:
    made = scaler(f"{own}:PerCall", options={"calls": 4})
    assert made.decide(Load(1, waiting=12), 0.0, 0.0) == Target(3, "by calls")
    assert made.decide(Load(3, waiting=400), 0.5, 0.0).replicas == 10
    assert scaler(f"{own}:three").decide(Load(1), 0.0, 0.0).replicas == 3


@pytest.mark.parametrize(("name", "waiting"), [("PerCall", 13), ("nonsense", 13), ("negative", 13)])
def test_where_it_fails_queue_depth_decides(
    own: str, name: str, waiting: int, caplog: pytest.LogCaptureFixture
) -> None:
    made = scaler(f"{own}:{name}")
    assert made.decide(Load(1, waiting=waiting), 0.0, 0.0).replicas == 2
    assert "queue_depth decides" in caplog.text


def test_one_that_cannot_be_loaded_is_a_fault_of_the_configuration(own: str) -> None:
    with pytest.raises(ConfigurationError, match=r"scaling\.strategy"):
        scaler(f"{own}:missing")


# --- over time ---


@pytest.mark.parametrize("strategy", SCALING)
def test_a_step_of_twenty_times_the_load_orders_its_first_replica_within_two_seconds(strategy: str) -> None:
    for seed in range(5):
        run = stepping(strategy, calls=3.0, factor=20.0, at_s=120.0, seed=seed)
        ordered = next(at for at, before, target in run.changes if at >= 120.0 and target.replicas > before)
        assert ordered - 120.0 <= 2.0


@pytest.mark.parametrize("strategy", SCALING)
@pytest.mark.parametrize("calls", [3.0, 14.0])
def test_a_pool_does_not_flap_over_an_hour_of_steady_noisy_load(strategy: str, calls: float) -> None:
    """Poisson arrivals, exponential service times, one call a replica: as noisy as it gets."""
    for seed in (1, 2):
        run: Run = steady(strategy, calls=calls, places=1, seed=seed, seconds=3900.0)
        late = [(before, target.replicas) for at, before, target in run.changes if at > 300.0]
        assert sum(replicas > before for before, replicas in late) <= 8, late


@given(
    strategy=st.sampled_from(["manual", *SCALING]),
    loads=st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 4), st.integers(0, 50), st.integers(0, 50), st.floats(0, 5)),
        max_size=40,
    ),
    least=st.integers(0, 3),
    gaps=st.lists(st.floats(0.01, 40.0), min_size=40, max_size=40),
)
def test_whatever_happens_the_target_is_within_the_limits_and_has_a_reason(
    strategy: str, loads: list[tuple[int, int, int, int, float]], least: int, gaps: list[float]
) -> None:
    made, now = scaler(strategy, min=least, max=8, slow_response_ms=100.0, staffing=1.0), 0.0
    for (ready, starting, in_flight, waiting, oldest_s), gap in zip(loads, gaps, strict=False):
        now += gap
        target = made.decide(Load(ready, starting, in_flight, waiting, oldest_s), now, now)
        assert least <= target.replicas <= 8
        assert target.reason
