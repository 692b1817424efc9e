"""The workflow file that `rayflow init` writes and `rayflow serve` falls back to.

It is kept as YAML, in starter.yaml beside this file, so that what users get is what editors and tests read.
"""

from __future__ import annotations

from importlib import resources

STARTER: str = resources.files(__package__).joinpath("starter.yaml").read_text(encoding="utf-8")
"""A commented workflow of three agents that runs as it stands: no key, no network."""
