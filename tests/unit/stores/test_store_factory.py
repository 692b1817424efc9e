"""The store that a configuration asks for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from rayflow.config.load import from_dict
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import ConfigurationError
from rayflow.stores.factory import build
from rayflow.stores.memory import MemoryStore
from rayflow.stores.servers.store import ServerStore
from rayflow.stores.sqlite import SqliteStore

DSN = {"postgres": "postgresql://u:hunter2@h/d", "redis": "redis://:hunter2@h/0"}


def config(state: Path, **session: Any) -> WorkflowConfig:
    return from_dict({"name": "w", "agents": [{"name": "a"}], "session": session, "storage": {"state": str(state)}})


def test_each_kind_of_store_is_made(tmp_path: Path) -> None:
    kinds = {"memory": MemoryStore, "sqlite": SqliteStore, "postgres": ServerStore, "redis": ServerStore}
    for store, kind in kinds.items():
        assert isinstance(build(config(tmp_path, store=store, dsn=DSN.get(store)), 0), kind)


@pytest.mark.parametrize("store", DSN)
def test_a_store_on_a_server_needs_its_address(store: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"session.dsn: expected the address of the server"):
        config(tmp_path, store=store)


@pytest.mark.parametrize(("store", "package"), [("postgres", "asyncpg"), ("redis", "redis")])
def test_a_missing_package_is_named_with_its_extra(
    store: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, f"rayflow.stores.servers.{store}", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError, match=rf"needs the package .*pip install 'rayflow\[{store}\]'"):
        build(config(tmp_path, store=store, dsn=DSN[store]), 0)


def test_the_address_is_a_secret(tmp_path: Path) -> None:
    assert "hunter2" not in repr(config(tmp_path, store="redis", dsn=DSN["redis"]))


def test_sessions_that_may_be_lost_are_known_to_be_volatile(tmp_path: Path) -> None:
    assert config(tmp_path, store="memory").session.volatile
    assert config(tmp_path, store="redis", dsn=DSN["redis"], allow_volatile=True).session.volatile
    assert not config(tmp_path, store="redis", dsn=DSN["redis"]).session.volatile
    assert not config(tmp_path).session.volatile
