"""Unit tests may not start Ray: it takes seconds, leaves daemons, and belongs to the integration tests."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Ray is imported already, `init` is an error; where it is not, so is the import."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a unit test started Ray: use the in-process backend, or move it to tests/integration")

    ray = sys.modules.get("ray")
    if ray is not None:
        monkeypatch.setattr(ray, "init", refuse)
    else:
        monkeypatch.setitem(sys.modules, "ray", None)
