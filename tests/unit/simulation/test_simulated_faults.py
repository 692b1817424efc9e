from __future__ import annotations

from rayflow.simulation.faults import HEALTHY, Condition, breaks, changes, condition
from rayflow.simulation.scenario import Fault


def test_a_fault_lasts_from_its_begin_to_its_end_and_concerns_whom_it_names() -> None:
    faults = [Fault(replicas=[1], from_s=10, to_s=20, slow=4)]
    assert [condition(faults, 1, now).slow for now in (9.9, 10.0, 19.9, 20.0)] == [1, 4, 4, 1]
    assert condition(faults, 0, 15) == HEALTHY


def test_a_fault_that_names_nobody_concerns_all_and_for_ever_where_it_has_no_end() -> None:
    assert condition([Fault(slow=2)], 77, 1e6).slow == 2


def test_slowness_multiplies_and_the_worst_failures_count() -> None:
    faults = [Fault(slow=2, fail=0.5, fail_after_s=1.0, cause="replica"), Fault(slow=3, fail=0.2, fail_after_s=0.1)]
    assert condition(faults, 0, 0) == Condition(slow=6, fail=0.5, fail_after_s=1.0, model=True)


def test_only_a_failing_model_concerns_a_breaker_and_only_slowness_changes_the_speed() -> None:
    slow, dead, down = Fault(slow=2), Fault(fail=1.0, cause="replica"), Fault(replicas=[2], fail=1.0)
    assert [breaks([fault]) for fault in (slow, dead, down)] == [False, False, True]
    assert [changes([fault], 0) for fault in (slow, dead, down)] == [True, False, False]
