"""docs/replay.md says what the code does."""

from __future__ import annotations

import re
from importlib.resources import files
from inspect import signature
from pathlib import Path

from rayflow.analytics.named import named_queries
from rayflow.cli.replay import replay
from rayflow.replay.diff import SCHEMA
from rayflow.replay.verdict import COUNTS, RATIOS

PAGE = (Path(__file__).parents[3] / "docs" / "replay.md").read_text()


def column(table: str) -> list[str]:
    """The names in the first column of the table that begins with this heading."""
    rows = PAGE[PAGE.index(table) :].split("\n\n", 1)[0].splitlines()[2:]
    return [name for row in rows for name in re.findall(r"`([\w-]+)`", row.split("|")[1])]


def test_every_column_of_the_table_is_explained() -> None:
    assert column("| column of `diff.parquet` |") == SCHEMA.names


def test_every_named_query_is_listed() -> None:
    own = {file.name.removesuffix(".sql") for file in (files("rayflow.replay") / "queries").iterdir()}
    assert set(column("| query |")) == own
    listed = named_queries([Path(str(files("rayflow.replay") / "queries"))])
    assert own <= listed.keys()


def test_every_condition_is_named() -> None:
    told = PAGE[PAGE.index("`--fail-on` is a list") :].split("\n\n", 1)[0]
    assert all(f"`{name}`" in told for name in COUNTS) and all(f"`{name}>" in told for name in RATIOS)
    assert f"`{signature(replay).parameters['fail_on'].default}` by default" in PAGE
