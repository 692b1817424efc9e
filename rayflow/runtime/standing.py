"""How urgent the calls of a run are, from what its request and its session say."""

from __future__ import annotations

from collections import OrderedDict

from rayflow.config.schema import WorkflowConfig
from rayflow.messages import RunRequest
from rayflow.policies.priority import level

ACTIVE_S = 60.0
"""A session is active for so long after a turn."""

SessionKey = tuple[str, str]


class Standing:
    """Remembers which sessions had a turn of late. `now`: seconds on the caller's monotonic clock."""

    def __init__(self, config: WorkflowConfig) -> None:
        self._priority = config.priority
        self._tiers = {tenant.name: tenant.tier for tenant in config.tenants if tenant.tier}
        self._remembers = config.priority.enabled and config.priority.active_session != 0.0
        self._turns: OrderedDict[SessionKey, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._turns)

    def level(self, request: RunRequest, now: float) -> float:
        """The tier of a tenant wins over what the request says. Raises `ValidationError` for an unknown class."""
        last = self._turns.get((request.tenant, request.session_id))
        active = last is not None and now - last < ACTIVE_S
        tier = self._tiers.get(request.tenant, request.user_tier)
        return level(request.service_class, tier, request.urgency, active, self._priority)

    def had_turn(self, key: SessionKey, now: float) -> None:
        """A turn of this session ended well."""
        if not self._remembers:
            return
        self._turns[key] = now
        self._turns.move_to_end(key)
        while now - next(iter(self._turns.values())) >= ACTIVE_S:
            self._turns.popitem(last=False)
