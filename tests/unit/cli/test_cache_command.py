"""`rayflow cache` as a user types it, without a system."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rayflow.app import attach, caches
from rayflow.cli import cache
from rayflow.cli.exits import Exit
from rayflow.messages import CacheCounts

COUNTS = [CacheCounts("results", "router", 3, 1, 1, 0, 1), CacheCounts("context", "router")]


class Desk:
    calls: list[tuple[str, ...]]

    def __init__(self, client: object) -> None:
        assert client == "client"

    async def counts(self) -> list[CacheCounts]:
        return COUNTS

    async def forget(self, tenant: str, agent: str) -> None:
        self.calls.append((tenant, agent))

    async def forget_everything(self) -> None:
        self.calls.append(("everything",))


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    @asynccontextmanager
    async def visit(state: Path) -> AsyncIterator[tuple[object, object]]:
        assert state == Path("here")
        yield None, "client"

    monkeypatch.setattr(attach, "visit", visit)
    monkeypatch.setattr(caches, "CacheDesk", Desk)
    monkeypatch.setattr(Desk, "calls", [], raising=False)
    made = typer.Typer()
    cache.register(made)
    return made


def test_the_counts_are_printed_as_a_table_and_as_json(app: typer.Typer) -> None:
    table = CliRunner().invoke(app, ["cache", "stats", "--state", "here"])
    assert table.exit_code == Exit.OK
    assert table.stdout.splitlines()[1].split() == ["results", "router", "3", "1", "1", "0", "1", "75%"]
    assert table.stdout.splitlines()[2].endswith("-"), "nothing was looked up"
    printed = CliRunner().invoke(app, ["cache", "stats", "--state", "here", "--format", "json"])
    assert json.loads(printed.stdout)["caches"][0]["hits"] == 3


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        ([], ("", "")),
        (["--tenant", "acme", "--agent", "a"], ("acme", "a")),
        (["--all"], ("everything",)),
    ],
)
def test_what_was_typed_is_forgotten(app: typer.Typer, arguments: list[str], call: tuple[str, ...]) -> None:
    assert CliRunner().invoke(app, ["cache", "invalidate", "--state", "here", *arguments]).exit_code == Exit.OK
    assert Desk.calls == [call]


def test_all_and_one_exclude_each_other(app: typer.Typer) -> None:
    done = CliRunner().invoke(app, ["cache", "invalidate", "--state", "here", "--all", "--tenant", "acme"])
    assert done.exit_code == Exit.USAGE and Desk.calls == []
