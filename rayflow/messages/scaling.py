"""How many replicas there should be: routers say what they see, users say what they want."""

from __future__ import annotations

import msgspec

from rayflow.messages.base import Payload


class PoolDemand(msgspec.Struct, frozen=True, omit_defaults=True):
    """One agent's pool as one router sees it. The totals count since the router's start."""

    agent: str
    in_flight: int = 0
    waiting: int = 0
    oldest_s: float = 0.0
    """How long the call that has waited longest has waited."""
    arrived: int = 0
    """Total of calls that asked for a replica."""
    finished: int = 0
    """Total of calls that ended."""
    response_s: float = 0.0
    """Total of the seconds that the finished calls took, waiting included."""


class PoolStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """One agent's pool as the coordinator sees it. `spares`: replicas that are ready and not in the rotation."""

    agent: str
    wanted: int
    ready: int
    starting: int = 0
    spares: int = 0
    strategy: str = ""


class GetDemand(Payload, frozen=True, tag=True):
    """Ask a router for the demand on its pools. Reply: `Demand`."""


class Demand(Payload, frozen=True, tag=True):
    pools: list[PoolDemand]


class ScaleCapacity(Payload, frozen=True, omit_defaults=True, tag=True):
    """Ask the coordinator to multiply pools by `factor`, or to set one to `replicas`, within their limits. Reply:
    `Scaled`. `agent`: only this one's."""

    factor: float = 1.0
    agent: str = ""
    replicas: int | None = None


class Scaled(Payload, frozen=True, tag=True):
    """`targets`: agent -> replicas that there will be."""

    targets: dict[str, int]
