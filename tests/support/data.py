"""The shared public data and tools that lie beside the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def shared(*parts: str) -> Path:
    """A file of that folder; skips the test where it is not there."""
    folder = Path(os.environ.get("RAYFLOW_SHARED", ROOT.parent / "shared"))
    path = folder.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not beside this checkout (set RAYFLOW_SHARED to its folder)")
    return path
