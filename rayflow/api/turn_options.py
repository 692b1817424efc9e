"""What a client wants done when a message meets an unfinished one, and when the client itself leaves.

`multitask_strategy` and `on_disconnect` stand in the body of POST /chat, and in the metadata of OpenAI's routes, which
know no such fields. The header `X-Rayflow-In-Progress` is for requests with an `Idempotency-Key`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, cast, get_args

from rayflow.api.decode import fault
from rayflow.api.exchange import Exchange
from rayflow.config.schema import ProcessingConfig
from rayflow.messages.runs import Multitask

IN_PROGRESS = "x-rayflow-in-progress"
STRATEGIES: tuple[str, ...] = get_args(Multitask)
DISCONNECTS = ("cancel", "continue")


class TurnOptions(NamedTuple):
    """`multitask` and `joins` as in `RunRequest`. `outlives`: the run goes on when its client leaves."""

    multitask: Multitask | Literal[""]
    outlives: bool
    joins: bool


def turn_options(
    exchange: Exchange,
    config: ProcessingConfig,
    multitask: str | None,
    on_disconnect: str | None,
    *,
    within: str = "",
) -> TurnOptions:
    """What the request says, else what is configured. `within`: where its fields stand, for messages. Raises
    `ValidationError`."""
    if multitask is not None:
        _check(f"{within}multitask_strategy", multitask, STRATEGIES)
    if on_disconnect is not None:
        _check(f"{within}on_disconnect", on_disconnect, DISCONNECTS)
    header = exchange.headers.get(IN_PROGRESS.encode())
    in_progress = "wait" if header is None else header.decode("latin-1")
    _check(IN_PROGRESS, in_progress, ("wait", "reject"))
    return TurnOptions(
        cast("Multitask", multitask) if multitask else "",
        (on_disconnect or config.on_disconnect) == "continue",
        in_progress == "wait",
    )


def _check(param: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise fault(param, f"must be one of {', '.join(names)}")
