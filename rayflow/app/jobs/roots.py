"""Which files of the server a job may read that came in over HTTP."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

ADDRESS = "://"


def within(path: str, roots: Collection[str]) -> bool:
    """Whether a path, a glob or an address lies below one of `roots`, links followed."""
    if ADDRESS in path:
        parts = path.split("/")
        return ".." not in parts and any(
            path == root or path.startswith(root.rstrip("/") + "/") for root in roots if ADDRESS in root
        )
    if not Path(path).is_absolute() or ".." in Path(path).parts:
        return False
    real = Path(path).resolve()
    return any(real.is_relative_to(Path(root).resolve()) for root in roots if ADDRESS not in root)
