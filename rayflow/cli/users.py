"""`rayflow users`: what users prefer, and the end of everything that is kept of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rayflow.app.users import ErasedUser

User = Annotated[str, typer.Argument(metavar="USER", help="Id of the user.")]
Tenant = Annotated[str, typer.Option(help="Tenant whose user it is.", show_default=False)]
Workflow = Annotated[
    Path | None,
    typer.Option(help="Workflow file, where no system is running.", show_default="rayflow.yaml"),
]
State = Annotated[Path | None, typer.Option(help="State folder of the system.", show_default="storage.state")]


def register(app: typer.Typer) -> None:
    users = typer.Typer(
        help="See and change preferences of users, and erase users, while a system runs or not.", no_args_is_help=True
    )
    users.command()(preferences)
    users.command()(erase)
    app.add_typer(users, name="users")


def preferences(
    user: User,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one; KEY= removes it; repeatable.", show_default=False),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove all of them first.")] = False,
    tenant: Tenant = "",
    workflow: Workflow = None,
    state: State = None,
) -> None:
    """Print the preferences of a user as JSON: language, expertise_level, communication_style, and any other key.

    Models get them with memory.enabled; what a session's metadata says of the same goes first.
    """
    import asyncio
    import json

    from rayflow.app.session_access import open_sessions

    change = dict(map(_pair, changes or []))

    async def look() -> dict[str, Any]:
        async with open_sessions(workflow, state, make=bool(change)) as client:
            if clear:
                await client.users.clear_preferences(tenant, user)
            if change:
                return await client.users.prefer(tenant, user, change)
            return await client.users.preferences(tenant, user)

    typer.echo(json.dumps(asyncio.run(look()), ensure_ascii=False, indent=2))


def erase(
    user: User,
    tenant: Tenant = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    workflow: Workflow = None,
    state: State = None,
) -> None:
    """Delete everything of a user: sessions with all their turns, memories and preferences."""
    import asyncio

    from rayflow.app.session_access import open_sessions

    async def remove() -> ErasedUser:
        async with open_sessions(workflow, state) as client:
            return await client.users.erase(tenant, user)

    whose = f"user {user} of {tenant}" if tenant else f"user {user}"
    if not yes:
        typer.confirm(f"Delete everything of {whose} for good?", abort=True, err=True)
    erased = asyncio.run(remove())
    counts = f"{erased.sessions} sessions, {erased.memories} memories and {erased.preferences} preferences"
    typer.echo(f"deleted {counts} of {whose}", err=True)


def _pair(text: str) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--set")
    return key, value or None
