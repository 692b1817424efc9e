"""A local Ray without the processes that a system of one machine has no use for.

`ray.init` starts an autoscaler monitor (for clusters that grow), a log monitor (for drivers that print what workers
log) and an API server (for the dashboard and the State API, which only work with the extra `dashboard`). Together they
cost 150 MB and two seconds of the start on two cores, and Ray has no option to leave them out. A Ray that names their
starters differently starts them as it likes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

from ray._private.node import Node


@contextmanager
def without_helpers() -> Iterator[None]:
    """While this lasts, a head node starts without them."""
    unneeded = ["start_monitor", "start_log_monitor"]
    if find_spec("aiohttp_cors") is None:
        unneeded.append("start_api_server")
    with ExitStack() as patches:
        for name in unneeded:
            if hasattr(Node, name):
                patches.enter_context(patch.object(Node, name, _start_nothing))
        yield


def _start_nothing(node: Any, **_: Any) -> None:
    """In place of a starter of `Node`."""
