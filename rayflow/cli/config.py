"""`rayflow config check|show|schema`: the workflow file without starting anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

File = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="Workflow file.", show_default="rayflow.yaml, else the built-in example"),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as processing.routers=2; repeatable."),
]


def register(app: typer.Typer) -> None:
    config = typer.Typer(help="Check and show the workflow file; nothing is started.", no_args_is_help=True)
    app.add_typer(config, name="config")

    @config.command()
    def check(file: File = None, overrides: Set = None) -> None:
        """Check the file, the RAYFLOW_... variables and the flags; exit with 3 and every problem if any is wrong."""
        from rayflow.config.load import load_or_example

        workflow = load_or_example(file, overrides or ())
        agents = ", ".join(agent.name for agent in workflow.agents)
        typer.echo(f"ok: workflow {workflow.name} with agents {agents}", err=True)

    @config.command()
    def show(file: File = None, overrides: Set = None) -> None:
        """Print the configuration as it would run, defaults and overrides included, secrets hidden."""
        from rayflow.config.load import load_or_example
        from rayflow.config.show import show as shown

        typer.echo(shown(load_or_example(file, overrides or ())), nl=False)

    @config.command()
    def schema() -> None:
        """Print the JSON Schema of the file, for editors."""
        import json

        from rayflow.config.show import json_schema

        typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))

    @config.command(hidden=True)
    def reference() -> None:
        """Print the table of all keys for docs/configuration.md."""
        from rayflow.config.reference import reference as table

        typer.echo(table(), nl=False)
