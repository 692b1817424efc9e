"""`rayflow users`: what users prefer, and the end of everything that is kept of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rayflow.cli.kept import ask, confirm_erasure
from rayflow.cli.options import State, User, UserTenant, Workflow, Yes

if TYPE_CHECKING:
    from rayflow.app.client import SystemClient


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
    tenant: UserTenant = "",
    workflow: Workflow = None,
    state: State = None,
) -> None:
    """Print the preferences of a user as JSON: language, expertise_level, communication_style, and any other key.

    Models get them with memory.enabled; what a session's metadata says of the same goes first.
    """
    import json

    change = dict(map(_pair, changes or []))

    async def look(client: SystemClient) -> dict[str, Any]:
        if clear:
            await client.users.clear_preferences(tenant, user)
        if change:
            return await client.users.prefer(tenant, user, change)
        return await client.users.preferences(tenant, user)

    typer.echo(json.dumps(ask(workflow, state, look, make=bool(change)), ensure_ascii=False, indent=2))


def erase(
    user: User, tenant: UserTenant = "", yes: Yes = False, workflow: Workflow = None, state: State = None
) -> None:
    """Delete everything of a user: sessions with all their turns, memories and preferences."""
    whose = confirm_erasure("everything", user, tenant, yes)
    erased = ask(workflow, state, lambda client: client.users.erase(tenant, user))
    counts = f"{erased.sessions} sessions, {erased.memories} memories and {erased.preferences} preferences"
    typer.echo(f"deleted {counts} of {whose}", err=True)


def _pair(text: str) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--set")
    return key, value or None
