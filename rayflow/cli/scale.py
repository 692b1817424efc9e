"""`rayflow scale`: more or fewer replicas, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    @app.command()
    def scale(
        what: Annotated[
            list[str], typer.Argument(metavar="[AGENT] FACTOR|=N", help="1.5: half as many again. =3: exactly three.")
        ],
        state: Annotated[Path, typer.Option("--state", help="State folder.")] = Path(".rayflow"),
    ) -> None:
        """Give one agent of the running system, or all of them, another number of replicas.

        It stays within `replicas.min` and `replicas.max`. With `scaling.strategy: manual` it holds until the next time;
        otherwise for `scaling.down_delay_s`, and then the strategy decides.
        """
        import asyncio

        from rayflow.app.attach import scale_running

        agent, amount = ("", what[0]) if len(what) == 1 else (what[0], what[-1])
        factor, replicas = _amount(amount)
        if len(what) > 2:
            raise typer.BadParameter(f"expected [AGENT] FACTOR|=N, got {' '.join(what)}")
        for name, target in asyncio.run(scale_running(state, factor, agent, replicas)).items():
            typer.echo(f"{name} {target}")


def _amount(text: str) -> tuple[float, int | None]:
    """The factor, or the number of replicas."""
    try:
        if text.startswith("="):
            replicas = int(text[1:])
            if replicas >= 0:
                return 1.0, replicas
        elif 0 < (factor := float(text)) < float("inf"):
            return factor, None
    except ValueError:
        pass
    raise typer.BadParameter(f"expected a factor above 0 such as 1.5, or a number of replicas such as =3, got {text}")
