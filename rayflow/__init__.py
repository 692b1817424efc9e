"""rayflow: an actor-model runtime for multi-agent chat workflows on Ray.

Importing the package loads nothing heavy; names are resolved on first use (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayflow.app.orchestrator import ChatResult, Orchestrator
    from rayflow.errors import WorkflowError

__version__ = "0.1.0"

_LAZY = {
    "Orchestrator": "rayflow.app.orchestrator",
    "ChatResult": "rayflow.app.orchestrator",
    "WorkflowError": "rayflow.errors",
}

__all__ = ["ChatResult", "Orchestrator", "WorkflowError", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'rayflow' has no attribute {name!r}")
