"""Which limits a request counts against: that of the workflow, its tenant's, and its user's.

Requests that name no user are one user of their tenant, so that leaving the name out is no way around a limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rayflow.config.schema import Limit, WorkflowConfig


class Counted(NamedTuple):
    """A limit, the name of the account that is kept for it, and whose it is in words."""

    name: str
    limit: Limit
    whose: str


def needs_accounts(config: WorkflowConfig) -> bool:
    """Whether anything is limited, so that books must be kept."""
    return any(_rated(limit) or _budgeted(limit) for limit in _all(config))


def needs_books(config: WorkflowConfig) -> bool:
    """Whether there is a budget: what was used must then survive a restart."""
    return any(_budgeted(limit) for limit in _all(config))


class Limits:
    """The configured limits, by what they limit."""

    def __init__(self, config: WorkflowConfig) -> None:
        self._workflow = config.limits.workflow
        self._tenant = config.limits.tenant
        self._user = config.limits.user
        self._own = {tenant.name: tenant.limit for tenant in config.tenants if tenant.limit is not None}
        self._rates = any(map(_rated, _all(config)))
        self._budgets = needs_books(config)

    def rates(self, tenant: str, user_id: str) -> list[Counted]:
        return [counted for counted in self._of(tenant, user_id) if _rated(counted.limit)] if self._rates else []

    def budgets(self, tenant: str, user_id: str) -> list[Counted]:
        """The account of a budget is named after its period, too: with another period it begins anew."""
        if not self._budgets:
            return []
        return [
            counted._replace(name=f"{counted.name}:{counted.limit.period}")
            for counted in self._of(tenant, user_id)
            if _budgeted(counted.limit)
        ]

    def _of(self, tenant: str, user_id: str) -> Iterator[Counted]:
        yield Counted("workflow", self._workflow, "this workflow")
        yield Counted(f"tenant/{tenant}", self._own.get(tenant, self._tenant), f"tenant {tenant!r}")
        yield Counted(f"user/{tenant}/{user_id}", self._user, f"user {user_id!r}")


def _all(config: WorkflowConfig) -> Iterator[Limit]:
    yield from (config.limits.workflow, config.limits.tenant, config.limits.user)
    yield from (tenant.limit for tenant in config.tenants if tenant.limit is not None)


def _rated(limit: Limit) -> bool:
    return limit.requests is not None


def _budgeted(limit: Limit) -> bool:
    return not (limit.max_requests is None and limit.max_tokens is None and limit.max_cost is None)
