"""`rayflow sessions`: look at conversations, take them out and in, change and remove them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rayflow.cli.kept import ask, confirm_erasure
from rayflow.cli.listing import columns, first, harmless
from rayflow.cli.options import Format, Output, Session, SessionTenant, State, User, UserTenant, Workflow, Yes

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable
    from typing import IO

    from rayflow.app.client import SystemClient
    from rayflow.app.session_archive import Imported
    from rayflow.messages import History, SessionInfo

AnyTenant = Annotated[str | None, typer.Option("--tenant", help="Only those of this tenant.", show_default=False)]
AnyUser = Annotated[str, typer.Option("--user", help="Only those of this user.", show_default=False)]


def register(app: typer.Typer) -> None:
    sessions = typer.Typer(
        help="Look at sessions, export, import, move and delete them, while a system runs or not.",
        no_args_is_help=True,
    )
    for command in (show_list, show, export, import_, delete, fork, erase, migrate, rekey):
        name = {"show_list": "list", "import_": "import"}.get(command.__name__)
        sessions.command(name)(command)
    app.add_typer(sessions, name="sessions")


def show_list(
    tenant: AnyTenant = None,
    user: AnyUser = "",
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Print so many at most.")] = 100,
    workflow: Workflow = None,
    state: State = None,
    output: Output = Format.TABLE,
) -> None:
    """List sessions by tenant, the newest first."""
    from rayflow.app.session_moves import everything

    found, more = ask(workflow, state, lambda client: first(limit, everything(client.shards, tenant, user)))
    typer.echo(_listed(found, output), nl=False)
    if more:
        typer.echo(f"note: there are more than {limit}: see --limit", err=True)


def show(
    session: Session,
    tenant: SessionTenant = "",
    last: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Print so many of the last turns.")] = 100,
    workflow: Workflow = None,
    state: State = None,
    output: Output = Format.TABLE,
) -> None:
    """Print a session and its turns."""
    from rayflow.messages import GetHistory

    page = ask(workflow, state, lambda client: client.session(GetHistory(tenant, session, limit=last, tail=True)))
    typer.echo(_shown(page, output), nl=False)


def export(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Where to; stdout where absent.")] = None,
    tenant: AnyTenant = None,
    user: AnyUser = "",
    workflow: Workflow = None,
    state: State = None,
) -> None:
    """Write sessions with all their turns and records as JSON lines, readable also where the store is encrypted."""
    from rayflow.app.session_archive import exported
    from rayflow.app.session_moves import everything

    with _output(file) as out:
        ask(
            workflow,
            state,
            lambda client: _write(out, exported(client.shards, everything(client.shards, tenant, user))),
        )


def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What `rayflow sessions export` has written; - for stdin.")
    ],
    workflow: Workflow = None,
    state: State = None,
) -> None:
    """Bring exported sessions in, with their numbers, times and agents. Importing twice changes nothing.

    Exits with 5 where some could not be imported; they are named on stderr.
    """
    import sys

    from rayflow.app.session_archive import imported
    from rayflow.errors import Exit

    def read(lines: Iterable[bytes]) -> Imported:
        return ask(workflow, state, lambda client: imported(client.shards, lines), make=True)

    if str(file) == "-":
        done = read(sys.stdin.buffer)
    else:
        with _input(file) as lines:
            done = read(lines)
    typer.echo(f"imported {done.sessions} sessions and {done.turns} turns", err=True)
    for name in done.short:
        typer.echo(f"warning: the file has not all turns of session {name}: it was cut", err=True)
    for reason in done.refused.values():
        typer.echo(f"not imported: {reason}", err=True)
    if done.short or done.refused:
        raise typer.Exit(Exit.PARTIAL)


def delete(session: Session, tenant: SessionTenant = "", workflow: Workflow = None, state: State = None) -> None:
    """Delete a session and all its turns."""
    from rayflow.messages import DeleteSession

    ask(workflow, state, lambda client: client.session(DeleteSession(tenant, session)))


def fork(
    session: Session,
    at: Annotated[int, typer.Option(min=-1, help="The last turn to share; -1: all.")] = -1,
    branch: Annotated[str, typer.Option(help="A name for the branch.", show_default=False)] = "",
    tenant: SessionTenant = "",
    workflow: Workflow = None,
    state: State = None,
) -> None:
    """Begin another session with the turns of this one, and print its id."""
    from rayflow.app.working_state import inherit_state
    from rayflow.messages import ForkSession

    async def begin(client: SystemClient) -> str:
        child = client.shards.sibling(session)
        info = await client.session(ForkSession(tenant, session, child, at, branch))
        await inherit_state(client, info)
        return info.session_id

    typer.echo(ask(workflow, state, begin))


def erase(
    user: User, tenant: UserTenant = "", yes: Yes = False, workflow: Workflow = None, state: State = None
) -> None:
    """Delete everything of a user: all sessions, with all their turns."""
    whose = confirm_erasure("all sessions", user, tenant, yes)
    deleted = ask(workflow, state, lambda client: client.shards.erase(tenant, user))
    typer.echo(f"deleted {deleted} sessions of {whose}", err=True)


def migrate(
    to: Annotated[
        list[str],
        typer.Option("--to", metavar="KEY=VALUE", help="What is to change, such as session.shards=4; repeatable."),
    ],
    workflow: Annotated[
        Path | None, typer.Option(help="Workflow file as it is until now.", show_default="rayflow.yaml")
    ] = None,
    state: State = None,
) -> None:
    """Move all sessions and records to another backend, server or number of shards; nothing may run.

    Kept results are left behind.

    The old ones stay as they are. Afterwards put the same keys into the workflow file.
    """
    import asyncio

    from rayflow.app.session_moves import move

    moved = asyncio.run(move(workflow, state, to))
    typer.echo(f"moved {moved.sessions} sessions; now set {', '.join(_names(to))} in the workflow file", err=True)
    if moved.kept is not None:
        typer.echo(f"the old ones are in {moved.kept}: delete it when all is well", err=True)


def rekey(workflow: Workflow = None, state: State = None) -> None:
    """Bring all sessions and records to the present key of session.encryption, and encrypt those that are not.

    A running system goes on meanwhile. When this is done, earlier keys can be taken out of the configuration.
    """
    from rayflow.errors import ConfigurationError

    async def change(client: SystemClient) -> tuple[int, int]:
        if client.config.session.encryption is None:
            raise ConfigurationError("session.encryption is not configured", key="session.encryption")
        sessions, owners = 0, 0
        done = await client.shards.rekey()
        while done.sessions or done.owners:
            sessions, owners = sessions + done.sessions, owners + done.owners
            done = await client.shards.rekey()
        return sessions, owners

    sessions, owners = ask(workflow, state, change)
    of_records = f", and the records of {owners} owners" if owners else ""
    typer.echo(f"rekeyed {sessions} sessions{of_records}", err=True)


def _names(to: list[str]) -> list[str]:
    """Keys without their values, which may be secrets."""
    return [pair.partition("=")[0] for pair in to]


def _output(file: Path | None) -> IO[bytes]:
    """Readable by nobody else: there are conversations in it."""
    import os
    import sys
    from contextlib import nullcontext

    from rayflow.errors import StorageError

    if file is None:
        return nullcontext(sys.stdout.buffer)  # type: ignore[return-value]
    try:
        return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
    except OSError as error:
        raise StorageError(f"cannot write {file}: {error.strerror}", path=str(file)) from error


def _input(file: Path) -> IO[bytes]:
    from rayflow.errors import ValidationError

    try:
        return file.open("rb")
    except OSError as error:
        raise ValidationError(f"cannot read {file}: {error.strerror}", path=str(file)) from error


async def _write(out: IO[bytes], lines: AsyncGenerator[bytes, None]) -> None:
    from rayflow.errors import StorageError

    async for part in lines:
        try:
            out.write(part)
        except OSError as error:
            raise StorageError(f"cannot write the export: {error.strerror}") from error


def _listed(found: list[SessionInfo], output: Format) -> str:
    import msgspec

    from rayflow.api.session_shapes import session_of

    if output is Format.JSON:
        return (
            msgspec.json.encode([{"tenant": info.tenant, **_dict(session_of(info))} for info in found]).decode() + "\n"
        )
    rows = [("session", "tenant", "user", "turns", "last turn", "title")]
    for info in found:
        shape = session_of(info)
        rows.append(
            (info.session_id, info.tenant, info.user_id, str(info.turns), shape.updated_at, harmless(info.title))
        )
    return columns(rows)


def _dict(value: object) -> dict[str, object]:
    import msgspec

    return dict(msgspec.to_builtins(value))


def _shown(page: History, output: Format) -> str:
    import msgspec

    from rayflow.api.session_shapes import session_of, turn_of

    if output is Format.JSON:
        shape = {"session": session_of(page.info), "turns": [turn_of(turn) for turn in page.turns]}
        return msgspec.json.encode(shape).decode() + "\n"
    facts = {name: value for name, value in _dict(session_of(page.info)).items() if value not in (None, "", {})}
    lines = [f"{name}: {value}" for name, value in facts.items()]
    for turn in page.turns:
        who = turn.agent or turn.message.role
        lines += ["", f"{turn.seq} {who}{' (cut)' if turn.partial else ''}", turn.message.text]
        lines += [f"calls {call.function.name} {call.function.arguments}" for call in turn.message.tool_calls or ()]
    return "".join(harmless(line, "\n\t") + "\n" for line in lines)
