"""The list of commands in docs/cli.md, made from the commands themselves so that it cannot fall behind them.

python -m rayflow.cli.reference prints it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import Enum
from inspect import cleandoc
from pathlib import Path
from typing import cast

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

BEGIN = "<!-- commands: made by `python -m rayflow.cli.reference` -->"
END = "<!-- end of commands -->"
_HEAD = "| argument or option | default | meaning |\n| --- | --- | --- |"
_VALUES: dict[object, str] = {int: "N", float: "NUMBER", Path: "PATH"}

Command = TyperCommand | TyperGroup


def commands(app: typer.Typer) -> dict[str, TyperCommand]:
    """Every command by what is typed for it, without those that are hidden."""
    return dict(_walk("rayflow", cast(TyperGroup, get_command(app))))


def reference(app: typer.Typer) -> str:
    """Markdown between two markers: for each command its help, its arguments and its options."""
    parts = [part for name, command in commands(app).items() for part in _section(name, command)]
    return "\n\n".join([BEGIN, *parts, END]) + "\n"


def update(document: str, app: typer.Typer) -> str:
    """`document` with what stands between the markers made anew. ValueError where it lacks them."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END + "\n")
    if not (begin and end):
        raise ValueError(f"the document lacks the markers {BEGIN!r} and {END!r}")
    return before + reference(app) + after


def _walk(name: str, command: Command) -> Iterator[tuple[str, TyperCommand]]:
    if isinstance(command, TyperGroup):
        for word, inner in command.commands.items():
            if not inner.hidden:
                yield from _walk(f"{name} {word}", cast(Command, inner))
    else:
        yield name, command


def _section(name: str, command: TyperCommand) -> Iterator[str]:
    params = cast("list[TyperArgument | TyperOption]", command.params)
    arguments = [_value(param) for param in params if isinstance(param, TyperArgument)]
    yield f"### {' '.join([name, *arguments])}"
    yield cleandoc(command.help or "")
    if params:
        yield "\n".join([_HEAD, *map(_row, params)])


def _row(param: TyperArgument | TyperOption) -> str:
    variable = f" Variable: `{param.envvar}`." if param.envvar else ""
    meaning = f"{param.help}{variable}".replace("|", "\\|")
    return f"| {_spelling(param)} | {_default(param)} | {meaning} |"


def _spelling(param: TyperArgument | TyperOption) -> str:
    if isinstance(param, TyperArgument):
        return f"`{_value(param)}`"
    value = "" if param.is_flag else f" {_value(param)}"
    return ", ".join(f"`{name}{value}`" for name in param.opts)


def _value(param: TyperArgument | TyperOption) -> str:
    """What to type in place of the value; in brackets where an argument may be left out."""
    annotation = param.type_descriptor.annotation
    if isinstance(param, TyperArgument):
        word = param.metavar or str(param.name).upper()
        return word if param.required else f"[{word}]"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ",".join(str(choice.value) for choice in annotation)
    return param.metavar or _VALUES.get(annotation, "TEXT")


def _default(param: TyperArgument | TyperOption) -> str:
    if param.required:
        return "required"
    default = param.default.value if isinstance(param.default, Enum) else param.default
    return "" if default is None or default is False or default == "" else f"`{default}`"


if __name__ == "__main__":
    from rayflow.cli import app

    sys.stdout.write(reference(app))
