"""How urgent a call is: a service class, and within it a share from what is known of its user.

Classes come first: a person who waits (interactive) before a tool or another program that a person waits for (tool)
before work that nobody watches (batch). The factors never lift a call out of its class; they say who goes first in it.
"""

from __future__ import annotations

import math

from rayflow.config.schema import PriorityConfig
from rayflow.errors import ValidationError

CLASSES = ("batch", "tool", "interactive")
"""From the lowest on; a class's place is the whole part of its calls' level."""
NORMAL = 0.25
"""Where in its class a call is of which nothing is known: there is room below for what is less urgent."""
HIGHEST = 0.99


def level(service_class: str, user_tier: str, urgency: str, active_session: bool, config: PriorityConfig) -> float:
    """Higher goes first: 2 to 3 for interactive, 1 to 2 for tool, 0 to 1 for batch, ends excluded. Names that the
    configuration does not know count as none. Raises `ValidationError` for a class that there is not."""
    if service_class not in CLASSES:
        raise ValidationError(
            f"service_class: {service_class[:64]!r} is none of {', '.join(CLASSES)}", param="service_class"
        )
    share = (
        NORMAL
        + config.user_tiers.get(user_tier, 0.0)
        + config.urgency.get(urgency, 0.0)
        + (config.active_session if active_session else 0.0)
    )
    return CLASSES.index(service_class) + min(max(share, 0.0), HIGHEST)


def class_of(call_level: float) -> int:
    """The place in `CLASSES` of a call with this level."""
    return min(max(math.floor(call_level), 0), len(CLASSES) - 1)
