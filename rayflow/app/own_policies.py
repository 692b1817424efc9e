"""Policies tried out before anything is started: a system that cannot decide must not begin.

Most workflows use built-in strategies that cannot fail to be made, so what the others need is imported only for them.
"""

from __future__ import annotations

from rayflow.config.schema import WorkflowConfig
from rayflow.config.sections.routing import PREPARED
from rayflow.policies.own import is_own


def check_policies(config: WorkflowConfig) -> None:
    """Raises `ConfigurationError` for a policy that cannot be made, naming its key, its file and the reason."""
    if config.routing.strategy in PREPARED or is_own(config.routing.strategy):
        from rayflow.app.learning import check

        check(config)
    if is_own(config.admission.strategy):
        from rayflow.policies.admission import admitter

        admitter(config.admission)
    if is_own(config.aggregation.strategy):
        from rayflow.policies.merging import Merger

        Merger(config.aggregation)
    for model in config.models:
        if is_own(model.retries.strategy):
            from rayflow.policies.retry import pauses

            pauses(model.retries, f"models.{model.name}.retries.strategy")
    for agent in config.agents:
        balancing, scaling = agent.balancing or config.balancing, agent.scaling or config.scaling
        if is_own(balancing.strategy):
            from rayflow.policies.balancing import balancer

            balancer(balancing)
        if is_own(scaling.strategy):
            from rayflow.policies.scaling import Scaler

            Scaler(agent.replicas, scaling)
