"""How urgent a client says its request is.

The service class may stand in the header `X-Rayflow-Priority`, in `metadata.service_class`, and in OpenAI's
`service_tier` (flex: batch). A client may put itself behind others and never before them: where several are named, the
lowest holds, and the highest there is, interactive, is what a request has that names none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rayflow.api.decode import fault
from rayflow.api.exchange import Exchange
from rayflow.config.schema import PriorityConfig
from rayflow.context import Context, context
from rayflow.policies.priority import CLASSES

HEADER = "x-rayflow-priority"
TIERS = {
    "auto": "interactive",
    "default": "interactive",
    "priority": "interactive",
    "scale": "interactive",
    "flex": "batch",
}
"""OpenAI's service tiers as classes."""


class Priority(NamedTuple):
    """As `RunRequest` has it."""

    service_class: str
    user_tier: str
    urgency: str


def priority_of(
    exchange: Exchange, metadata: Mapping[str, str], config: PriorityConfig, service_tier: str | None = None
) -> Priority:
    """What the request says of its priority. It is passed on with whatever is sent on behalf of this request. Raises
    `ValidationError` for a name that there is not."""
    named = []
    header = exchange.headers.get(HEADER.encode())
    if header is not None:
        named.append(_known(HEADER, header.decode("latin-1"), CLASSES))
    if "service_class" in metadata:
        named.append(_known("metadata.service_class", metadata["service_class"], CLASSES))
    if service_tier is not None:
        named.append(TIERS[_known("service_tier", service_tier, TIERS)])
    rank = min(map(CLASSES.index, named), default=len(CLASSES) - 1)
    user_tier, urgency = metadata.get("user_tier", ""), metadata.get("urgency", "")
    if user_tier:
        _known("metadata.user_tier", user_tier, config.user_tiers)
    if urgency:
        _known("metadata.urgency", urgency, config.urgency)
    ambient = context.get()
    context.set(Context(ambient.traceparent if ambient else "", exchange.tenant, rank))
    return Priority(CLASSES[rank], user_tier, urgency)


def _known(param: str, name: str, names: Iterable[str]) -> str:
    if name not in names:
        raise fault(param, f"must be one of {', '.join(names)}")
    return name
