"""`rayflow feedback`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping


class Thumb(StrEnum):
    UP = "up"
    DOWN = "down"


def register(app: typer.Typer) -> None:
    @app.command()
    def feedback(
        run: Annotated[
            str, typer.Argument(metavar="[RUN]", help="Id of the run, or of its chat completion.", show_default=False)
        ] = "",
        session: Annotated[str, typer.Option(help="A session as a whole, in place of a run.", show_default=False)] = "",
        thumb: Annotated[Thumb | None, typer.Option(help="The short way to say it.", show_default=False)] = None,
        score: Annotated[
            float | None, typer.Option(min=-1, max=1, help="From -1 (of no use) to 1 (just right).", show_default=False)
        ] = None,
        comment: Annotated[str, typer.Option(help="Why.", show_default=False)] = "",
        user: Annotated[str, typer.Option(help="Who says it.", show_default="the run's user")] = "",
        tenant: Annotated[str, typer.Option(help="Tenant whose run it is.", show_default=False)] = "",
        state: Annotated[Path, typer.Option(help="State folder of the system.")] = Path(".rayflow"),
    ) -> None:
        """Say what an answer was worth. The last word of a user on an answer counts."""
        import asyncio

        from rayflow.analytics.database import open_log
        from rayflow.app.asked_log import rows_of
        from rayflow.app.attach import visit
        from rayflow.app.build import events_folder
        from rayflow.app.feedback import FeedbackDesk, Opinion

        opinion = Opinion(run, session, user, thumb.value if thumb is not None else None, score, comment)

        async def give() -> Opinion:
            async with visit(state) as (_, client):

                async def ask(sql: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
                    with open_log(events_folder(client.config)) as log:  # a new one sees what has come meanwhile
                        return rows_of(log, sql, params)

                given = await FeedbackDesk(client, ask).give(tenant, opinion)
                await client.flush()
                return given

        given = asyncio.run(give())
        typer.echo(f"recorded for {given.run_id or given.session_id}", err=True)
