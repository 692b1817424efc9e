"""Which replica of a pool takes a call: one strategy per file, and users' own ones behind a fence."""

from __future__ import annotations

from rayflow.policies.balancing.base import Balancer, Outcome, Replica
from rayflow.policies.balancing.factory import balancer

__all__ = ["Balancer", "Outcome", "Replica", "balancer"]
