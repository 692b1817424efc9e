"""`rayflow version`."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    @app.command()
    def version() -> None:
        """Print the versions of rayflow, Python and Ray."""
        import platform
        from importlib.metadata import version as installed

        from rayflow import __version__

        typer.echo(f"rayflow {__version__}, Python {platform.python_version()}, ray {installed('ray')}")
