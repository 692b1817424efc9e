"""One workflow served on a real Ray for the whole folder; tests that end it start their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.served import Served, served


@pytest.fixture(scope="session")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The built-in example with two ingress processes, on Ray."""
    cwd = tmp_path_factory.mktemp("team")
    with served("--set", "processing.ingress=2", cwd=cwd) as server:
        yield server
        assert server.stop() == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
