"""Which agents answer a message.

A strategy looks at the text and at nothing else that could change between two calls, except round robin, whose counter
is part of the snapshot, and load_balanced, which asks the pools. Confidence has a definition that can be tested, one
for each strategy: docs/policies/routing.md.
"""

from __future__ import annotations

from rayflow.policies.routing.decision import Decision, Evidence
from rayflow.policies.routing.phrases import confidence
from rayflow.policies.routing.policy import RoutingPolicy
from rayflow.policies.routing.scored import Scorer

__all__ = ["Decision", "Evidence", "RoutingPolicy", "Scorer", "confidence"]
