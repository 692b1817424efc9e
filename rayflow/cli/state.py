"""`rayflow state`: look at what a session's workflow remembers of it, change it, and go back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from rayflow.cli.kept import ask
from rayflow.cli.options import Format, Output, Session, SessionTenant, State, Workflow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from rayflow.app.working_state import WorkingState
    from rayflow.config.schema import StateConfig
    from rayflow.policies.state import Change, Delta, StateView

T = TypeVar("T")
Expected = Annotated[
    int | None,
    typer.Option("--if-version", metavar="N", help="Only if this is the present version.", show_default=False),
]


def register(app: typer.Typer) -> None:
    state = typer.Typer(
        help="Look at the working state of a session, change it, and go back, while a system runs or not.",
        no_args_is_help=True,
    )
    for command in (show, set_, history, diff, checkpoint, restore):
        state.command(command.__name__.rstrip("_"))(command)
    app.add_typer(state, name="state")


def show(
    session: Session,
    version: Annotated[
        int | None, typer.Option(metavar="N", help="An earlier version.", show_default="the present one")
    ] = None,
    tenant: SessionTenant = "",
    workflow: Workflow = None,
    state: State = None,
    output: Output = Format.TABLE,
) -> None:
    """Print the working state of a session, and its checkpoints."""

    async def look(working: WorkingState) -> tuple[StateView, dict[str, int]]:
        view = await working.read(version)
        return view, {name: mark.version for name, mark in (await working.checkpoints()).items()}

    view, marks = _asked(session, tenant, workflow, state, look)
    if output is Format.JSON:
        from rayflow.api.state_shapes import state_of

        _print_json({**_plain(state_of(session, view)), "checkpoints": marks})
        return
    typer.echo(_text(view))
    for name, kept in marks.items():
        typer.echo(f"checkpoint {name}: version {kept}")


def set_(
    session: Session,
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FIELD=VALUE]...",
            help="Taken in as the field's reducer says. JSON; fields of type string take plain text.",
        ),
    ] = None,
    replace: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE", help="Put in the place of what is there; repeatable.", show_default=False),
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option(metavar="FIELD", help="Take a field out; repeatable.", show_default=False)
    ] = None,
    keep_last: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=N", help="Keep the last N items of a list, after all else; repeatable.", show_default=False
        ),
    ] = None,
    if_version: Expected = None,
    tenant: SessionTenant = "",
    workflow: Workflow = None,
    state: State = None,
) -> None:
    """Change the working state of a session, all or nothing, and print it."""
    from rayflow.policies.state import StateUpdate

    async def change(working: WorkingState) -> StateView:
        config = working.config
        new, replaced = _values(values, config), _values(replace, config)
        return await working.update(StateUpdate(new, replaced, remove or [], _counts(keep_last)), if_version)

    typer.echo(_text(_asked(session, tenant, workflow, state, change)))


def history(
    session: Session,
    last: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="Print so many of the last versions.")] = 20,
    tenant: SessionTenant = "",
    workflow: Workflow = None,
    state: State = None,
    output: Output = Format.TABLE,
) -> None:
    """Print what the last versions of a working state have changed, the newest first."""
    deltas = _asked(session, tenant, workflow, state, lambda working: working.history(last))
    if output is Format.JSON:
        from rayflow.api.state_shapes import change_of

        _print_json([_plain(change_of(delta)) for delta in deltas])
        return
    for delta in deltas:
        typer.echo(_headline(delta))
        _print_changes(delta.changes)


def diff(
    session: Session,
    before: Annotated[int, typer.Argument(min=0, metavar="VERSION", help="From this version")],
    after: Annotated[
        int | None, typer.Argument(min=0, metavar="[VERSION]", help="to this one.", show_default="the present one")
    ] = None,
    tenant: SessionTenant = "",
    workflow: Workflow = None,
    state: State = None,
    output: Output = Format.TABLE,
) -> None:
    """Print what is different between two versions of a working state."""
    changes = _asked(session, tenant, workflow, state, lambda working: working.diff(before, after))
    if output is Format.JSON:
        _print_json([_plain(change) for change in changes])
    else:
        _print_changes(changes)


def checkpoint(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name for it.")],
    version: Annotated[
        int | None, typer.Option(metavar="N", help="An earlier version.", show_default="the present one")
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete this checkpoint instead.")] = False,
    tenant: SessionTenant = "",
    workflow: Workflow = None,
    state: State = None,
) -> None:
    """Keep a version of a working state under a name, until the session is deleted."""

    async def keep(working: WorkingState) -> str:
        if delete:
            await working.delete_checkpoint(name)
            return f"deleted checkpoint {name}"
        return f"checkpoint {name} is version {(await working.checkpoint(name, version)).version}"

    typer.echo(_asked(session, tenant, workflow, state, keep), err=True)


def restore(
    session: Session,
    name: Annotated[str | None, typer.Argument(metavar="[CHECKPOINT]", help="A checkpoint")] = None,
    version: Annotated[
        int | None, typer.Option(metavar="N", help="or a version to go back to.", show_default=False)
    ] = None,
    if_version: Expected = None,
    tenant: SessionTenant = "",
    workflow: Workflow = None,
    state: State = None,
) -> None:
    """Go back to a checkpoint or version, as a new version, and print the state."""
    view = _asked(session, tenant, workflow, state, lambda working: working.restore(name, version, if_version))
    typer.echo(_text(view))


def _asked(
    session: str,
    tenant: str,
    workflow: Path | None,
    state: Path | None,
    question: Callable[[WorkingState], Awaitable[T]],
) -> T:
    from rayflow.app.working_state import WorkingState

    return ask(workflow, state, lambda client: question(WorkingState(client, tenant, session, "rayflow state")))


def _values(given: list[str] | None, config: StateConfig) -> dict[str, Any]:
    """Fields of type string take text as it is, so that nobody has to quote twice; others take JSON."""
    import msgspec

    from rayflow.errors import ValidationError

    found: dict[str, Any] = {}
    for name, text in _pairs(given):
        field = config.field(name)
        if field is not None and field.type == "string":
            found[name] = text
            continue
        try:
            found[name] = msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise ValidationError(f"{name}: expected JSON, got {text!r} ({error})", param=name) from None
    return found


def _counts(given: list[str] | None) -> dict[str, int] | None:
    from rayflow.errors import ValidationError

    found: dict[str, int] = {}
    for name, text in _pairs(given):
        if not text.isdecimal():
            raise ValidationError(f"{name}: expected a number of items, got {text!r}", param=name)
        found[name] = int(text)
    return found or None


def _pairs(given: list[str] | None) -> Iterator[tuple[str, str]]:
    from rayflow.errors import ValidationError

    for pair in given or ():
        name, equals, text = pair.partition("=")
        if not (name and equals):
            raise ValidationError(f"{pair!r}: expected FIELD=VALUE", param=pair)
        yield name, text


def _text(view: StateView) -> str:
    lines = [f"version {view.version}, schema_version {view.schema_version}"]
    lines += [f"{name}: {_value(value)}" for name, value in view.values.items() if value is not None]
    lines += [
        f"warning: {wrong.field}: expected {wrong.expected}, stored is {wrong.got}: {wrong.way_out}"
        for wrong in view.misfits
    ]
    if view.undeclared:
        lines.append(f"kept of an earlier schema: {', '.join(view.undeclared)}")
    return "\n".join(lines)


def _headline(delta: Delta) -> str:
    from rayflow.api.session_shapes import rfc3339

    facts = [rfc3339(delta.created_us), f"after turn {delta.turn}", delta.by, delta.note]
    return f"version {delta.version}: {', '.join(fact for fact in facts if fact)}"


def _print_changes(changes: list[Change]) -> None:
    for change in changes:
        place = change.field if change.at is None else f"{change.field}[{_value(change.at)}]"
        typer.echo(f"  {place}: {_side(change, change.before)} -> {_side(change, change.after)}")


def _side(change: Change, values: list[Any]) -> str:
    if isinstance(change.at, int):
        return _value(values)
    return _value(values[0]) if values else "nothing"


def _value(value: Any) -> str:
    """As JSON: what people and models write must not command the terminal."""
    import json

    return json.dumps(value, ensure_ascii=True)


def _plain(value: object) -> dict[str, Any]:
    import msgspec

    return dict(msgspec.to_builtins(value))


def _print_json(value: object) -> None:
    import json

    typer.echo(json.dumps(value))
