"""`rayflow memory`: what is remembered of a user."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from rayflow.cli.kept import ask
from rayflow.cli.listing import columns, first, harmless
from rayflow.cli.options import Format, Output, State, User, UserTenant, Workflow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rayflow.messages import Memory


class Kind(StrEnum):
    SHORT_TERM = "short_term"
    LONG_TERM = "long_term"
    EPISODIC = "episodic"
    PROCEDURAL = "procedural"
    SEMANTIC = "semantic"


Kinds = Annotated[list[Kind] | None, typer.Option("--kind", help="Only of this kind; repeatable.", show_default=False)]


def register(app: typer.Typer) -> None:
    memory = typer.Typer(
        help="See, search, add and forget what is remembered of a user, while a system runs or not.",
        no_args_is_help=True,
    )
    for command in (show_list, search, add, forget, consolidate):
        memory.command("list" if command is show_list else None)(command)
    app.add_typer(memory, name="memory")


def show_list(
    user: User,
    kind: Kinds = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Print so many at most.")] = 1000,
    tenant: UserTenant = "",
    workflow: Workflow = None,
    state: State = None,
    output: Output = Format.TABLE,
) -> None:
    """List what is remembered of a user."""
    from rayflow.messages import Filter

    wanted = Filter(kinds=[each.value for each in kind or []])
    found, more = ask(workflow, state, lambda client: first(limit, client.users.every_memory(tenant, user, wanted)))
    typer.echo(_listed(found, output), nl=False)
    if more:
        typer.echo(f"note: there are more than {limit}: see --limit", err=True)


def search(
    user: User,
    query: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for.")],
    top_k: Annotated[
        int | None, typer.Option(min=1, max=100, metavar="N", help="So many at most.", show_default="memory.top_k")
    ] = None,
    kind: Kinds = None,
    tenant: UserTenant = "",
    workflow: Workflow = None,
    state: State = None,
    output: Output = Format.TABLE,
) -> None:
    """Print the memories that have most to do with a text, the best first."""
    from rayflow.messages import Filter

    wanted = Filter(kinds=[each.value for each in kind or []])
    found = ask(workflow, state, lambda client: client.users.search(tenant, user, query, top_k, wanted))
    typer.echo(_listed([each.memory for each in found], output, [each.score for each in found]), nl=False)


def add(
    user: User,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to remember.")],
    kind: Annotated[Kind, typer.Option(help="What kind of memory it is.")] = Kind.LONG_TERM,
    importance: Annotated[
        float | None, typer.Option(min=0, max=1, help="How important it is.", show_default="0.8, or more by the rules")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; repeatable.", show_default="its words")] = None,
    tenant: UserTenant = "",
    workflow: Workflow = None,
    state: State = None,
) -> None:
    """Remember something of a user, and print its id. A newer fact about the same takes the place of the older."""
    from rayflow.errors import ValidationError

    if not text.strip():
        raise ValidationError("the text is blank", param="TEXT")
    memory = ask(
        workflow,
        state,
        lambda client: client.users.remember(tenant, user, text, kind.value, importance, tag or []),
        make=True,
    )
    if memory is None:
        typer.echo("note: this is remembered already, or something newer about the same is", err=True)
    else:
        typer.echo(memory.id)


def forget(
    user: User,
    memories: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids, as list prints them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Forget everything instead.")] = False,
    tenant: UserTenant = "",
    workflow: Workflow = None,
    state: State = None,
) -> None:
    """Forget single memories of a user, or all of them."""
    from rayflow.errors import NotFound

    if bool(memories) == everything:
        raise typer.BadParameter("give ids, or --all", param_hint="[ID]...")
    these = None if everything else memories
    forgotten = ask(workflow, state, lambda client: client.users.forget(tenant, user, these))
    if memories and not forgotten:
        raise NotFound(f"user {user} has none of these memories", kind="memory")
    typer.echo(f"forgot {forgotten} memories of user {user}", err=True)


def consolidate(user: User, tenant: UserTenant = "", workflow: Workflow = None, state: State = None) -> None:
    """Promote, forget and join the memories of a user now, rather than when there is time."""
    done = ask(workflow, state, lambda client: client.users.consolidate(tenant, user))
    typer.echo(
        f"promoted {done.promoted}, forgot {done.forgotten}, found {done.facts} facts and {done.skills} skills",
        err=True,
    )


def _listed(memories: Sequence[Memory], output: Format, scores: Sequence[float] = ()) -> str:
    import msgspec

    from rayflow.api.user_shapes import memory_of

    if output is Format.JSON:
        shown = [msgspec.to_builtins(memory_of(memory)) for memory in memories]
        if scores:
            shown = [{"score": score, **memory} for score, memory in zip(scores, shown, strict=True)]
        return msgspec.json.encode(shown).decode() + "\n"
    rows = [("id", "score" if scores else "importance", "kind", "text")]
    for place, memory in enumerate(memories):
        number = scores[place] if scores else memory.importance
        rows.append((memory.id, f"{number:.2f}", memory.kind, harmless(memory.text)))
    return columns(rows)
