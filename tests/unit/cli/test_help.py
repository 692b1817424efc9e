"""Help is quick and complete."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.core import TyperArgument, TyperOption

from rayflow.cli import app
from rayflow.cli.reference import commands

HEAVY = ["ray", "openai", "fastapi", "pydantic", "duckdb", "pyarrow", "msgspec"]
COMMANDS = commands(app)

HELP = f"""
import json, sys
from rayflow.cli import app
for words in json.loads(sys.argv[1]):
    try:
        app([*words, "--help"])
    except SystemExit as end:
        assert end.code == 0, words
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]), file=sys.stderr)
"""


def loaded_by_help_of(*commands: str) -> list[str]:
    words = [command.split()[1:] for command in commands]
    run = [sys.executable, "-c", HELP, json.dumps(words)]
    loaded: list[str] = json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stderr)
    return loaded


def test_help_loads_nothing_heavy() -> None:
    assert loaded_by_help_of("rayflow") == []


def test_help_of_a_command_loads_nothing_but_what_typer_itself_needs() -> None:
    assert loaded_by_help_of(*COMMANDS) == ["pydantic"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name: str) -> None:
    assert COMMANDS[name].help
    for param in COMMANDS[name].params:
        assert isinstance(param, (TyperArgument, TyperOption))
        assert param.help, f"{name}: {param.name} has no help"
