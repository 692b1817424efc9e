"""Times of the week at which a pool is kept larger. All times are UTC."""

from __future__ import annotations

from collections.abc import Iterable

from rayflow.config.schema import Schedule

DAYS = ("thu", "fri", "sat", "sun", "mon", "tue", "wed")
"""From the first day of Unix time."""
DAY_S = 86_400


def scheduled(schedules: Iterable[Schedule], wall_s: float) -> int:
    """The most replicas that a schedule asks for at this moment (Unix time); 0 where none does."""
    return max((schedule.min for schedule in schedules if active(schedule, wall_s)), default=0)


def active(schedule: Schedule, wall_s: float) -> bool:
    """Whether it is that time. One that goes past midnight belongs to the day it begins on; one that ends when it
    begins lasts a whole day."""
    day, second = divmod(int(wall_s), DAY_S)
    start, end = _second(schedule.start), _second(schedule.end)
    if start < end:
        return start <= second < end and _on(schedule, day)
    return (second >= start and _on(schedule, day)) or (second < end and _on(schedule, day - 1))


def _on(schedule: Schedule, day: int) -> bool:
    return not schedule.days or DAYS[day % 7] in schedule.days


def _second(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60
