"""The policies that users wrote, tried out before anything is started: a system that cannot decide must not begin."""

from __future__ import annotations

from rayflow.config.schema import WorkflowConfig
from rayflow.policies.own import is_own


def check_policies(config: WorkflowConfig) -> None:
    """Raises `ConfigurationError` for a policy that cannot be made, naming its key, its file and the reason."""
    from rayflow.app.learning import check
    from rayflow.policies.admission import admitter
    from rayflow.policies.balancing import balancer
    from rayflow.policies.merging import Merger
    from rayflow.policies.retry import pauses
    from rayflow.policies.scaling import Scaler

    check(config)
    if is_own(config.admission.strategy):
        admitter(config.admission)
    if is_own(config.aggregation.strategy):
        Merger(config.aggregation)
    for model in config.models:
        if is_own(model.retries.strategy):
            pauses(model.retries, f"models.{model.name}.retries.strategy")
    for agent in config.agents:
        balancing, scaling = agent.balancing or config.balancing, agent.scaling or config.scaling
        if is_own(balancing.strategy):
            balancer(balancing)
        if is_own(scaling.strategy):
            Scaler(agent.replicas, scaling)
