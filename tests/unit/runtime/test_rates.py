"""Requests by rate: all limits together, counted once, in bounded memory."""

from __future__ import annotations

from typing import Any

import pytest

from rayflow.config.schema import WorkflowConfig
from rayflow.errors import RateLimited
from rayflow.runtime.limits import Limits, needs_accounts, needs_books
from rayflow.runtime.rates import Rates


def config(**sections: Any) -> WorkflowConfig:
    return WorkflowConfig.model_validate({"name": "w", "agents": [{"name": "a"}], **sections})


def rates(keepers: int = 1, max_keys: int = 100, **sections: Any) -> Rates:
    return Rates(Limits(config(**sections)), keepers, max_keys)


def passed(counted: Rates, runs: int, now: float, tenant: str = "t", user: str = "u", first: int = 0) -> int:
    through = 0
    for i in range(first, first + runs):
        run_id = f"{tenant}/{user}/{i}"
        try:
            counted.check(run_id, tenant, user, now)
        except RateLimited:
            continue
        counted.take(run_id, tenant, user, now)
        through += 1
    return through


def test_books_are_needed_only_where_something_is_limited() -> None:
    assert not needs_accounts(config(tenants=[{"name": "t", "weight": 3.0}]))
    assert needs_accounts(config(limits={"user": {"requests": 1}}))
    assert not needs_books(config(limits={"user": {"requests": 1}}))
    assert needs_books(config(tenants=[{"name": "t", "limit": {"max_cost": 1.0}}]))


def test_a_user_over_the_limit_is_told_exactly_when_to_come_again() -> None:
    counted = rates(limits={"user": {"requests": 100, "window_s": 3600.0}})
    assert passed(counted, 150, 0.0) == 100
    with pytest.raises(RateLimited, match="user 'u' may have 100 requests in 3600 s") as refused:
        counted.check("next", "t", "u", 0.0)
    assert refused.value.retry_after_s == pytest.approx(36.0)
    assert passed(counted, 5, 36.001, first=200) == 1


def test_all_limits_hold_together_and_a_refusal_takes_from_none() -> None:
    counted = rates(limits={"workflow": {"requests": 10}, "user": {"requests": 4}})
    assert passed(counted, 6, 0.0, user="ann") == 4
    assert passed(counted, 6, 0.0, user="bob") == 4
    assert passed(counted, 6, 0.0, user="cid") == 2


def test_a_tenant_has_its_own_limit_or_that_of_all_tenants() -> None:
    counted = rates(
        limits={"tenant": {"requests": 5}}, tenants=[{"name": "big", "limit": {"requests": 50}}, {"name": "small"}]
    )
    assert passed(counted, 100, 0.0, tenant="big") == 50
    assert passed(counted, 100, 0.0, tenant="small") == 5
    assert passed(counted, 100, 0.0, tenant="") == 5


def test_users_of_two_tenants_are_not_the_same_and_the_nameless_are_one() -> None:
    counted = rates(limits={"user": {"requests": 3}})
    assert passed(counted, 9, 0.0, tenant="a") == 3
    assert passed(counted, 9, 0.0, tenant="b") == 3
    assert passed(counted, 9, 0.0, user="") == 3
    assert passed(counted, 9, 0.0, user="", first=100) == 0


def test_a_run_that_comes_again_is_not_counted_again() -> None:
    counted = rates(limits={"user": {"requests": 3}})
    for _ in range(10):
        assert passed(counted, 1, 0.0) == 1
    assert passed(counted, 5, 0.0, first=1) == 2


def test_keys_that_say_nothing_any_more_are_dropped() -> None:
    counted = rates(limits={"user": {"requests": 10, "window_s": 10.0}})
    for i in range(500):
        passed(counted, 1, float(2 * i), user=f"user{i}")
    assert len(counted) <= 5


def test_however_many_names_there_are_memory_is_bounded() -> None:
    counted = rates(limits={"user": {"requests": 1, "window_s": 1e6}}, max_keys=50)
    for i in range(500):
        passed(counted, 1, 0.0, user=f"user{i}")
    assert len(counted) <= 51


def test_keepers_that_count_for_themselves_let_through_no_more_than_one_would() -> None:
    parts = [rates(keepers=4, limits={"workflow": {"requests": 100}}) for _ in range(4)]
    assert sum(passed(part, 200, 0.0) for part in parts) == 100
