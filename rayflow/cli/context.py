"""`rayflow context`: what a model would get of a session, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rayflow.cli.options import Format, Output, Session, SessionTenant, State, Workflow

if TYPE_CHECKING:
    from rayflow.app.context_view import View


def register(app: typer.Typer) -> None:
    context = typer.Typer(help="See what a model gets of a session.", no_args_is_help=True)
    context.command()(show)
    context.callback()(lambda: None)
    app.add_typer(context, name="context")


def show(
    session: Session,
    message: Annotated[str, typer.Option(metavar="TEXT", help="What the user would send next.")] = "",
    agent: Annotated[str, typer.Option(metavar="NAME", help="Show this agent's instructions, too.")] = "",
    tenant: SessionTenant = "",
    workflow: Workflow = None,
    state: State = None,
    output: Output = Format.TABLE,
) -> None:
    """Print exactly what a model would get for the next message of a session, and why each part is there.

    Asks the system that serves from the state folder; where none does, it reads the sessions there itself.
    """
    import asyncio

    from rayflow.app.attach import open_client
    from rayflow.app.context_view import view

    async def look() -> View:
        async with open_client(workflow, state=state, in_process=True) as client:
            return await view(client, tenant, session, message, agent)

    seen = asyncio.run(look())
    typer.echo(_json(seen) if output is Format.JSON else _text(seen))


def _json(view: View) -> str:
    import json

    import msgspec

    context = view.context
    return json.dumps(
        {
            "session_id": view.session.session_id,
            "turns": view.session.turns,
            "agent": view.agent,
            "tokens": context.tokens,
            "budget": context.budget,
            "tokenizer": view.tokenizer,
            "messages": msgspec.to_builtins(view.messages),
            "included": [
                {**piece.inclusion._asdict(), "role": piece.message.role, "text": piece.message.text}
                for piece in context.pieces
            ],
            "left_out": context.left_out,
            "topics": [{"words": topic.words, "first": topic.first, "last": topic.last} for topic in view.topics],
            "entities": [{"kind": entity.kind, "text": entity.text} for entity in view.entities],
        },
        ensure_ascii=False,
        indent=2,
    )


def _text(view: View) -> str:
    """First the reasons, a line for each piece; then the messages as they are."""
    context = view.context
    lines = [
        f"session   {view.session.session_id}, {view.session.turns} turns",
        f"tokens    {context.tokens} of {context.budget} ({view.tokenizer})",
    ]
    lines += [f"left out  {number} turns: {why}" for why, number in context.left_out.items()]
    if view.topics:
        lines.append("topics    " + "; ".join(f"{topic} ({topic.first}-{topic.last})" for topic in view.topics[-5:]))
    if view.entities:
        lines.append("entities  " + ", ".join(entity.text for entity in view.entities[-10:]))
    lines += ["", "included      turn  tokens  why"]
    for reason, tokens, turn, why in (piece.inclusion for piece in context.pieces):
        lines.append(f"{reason:<12}  {turn or '-':>4}  {tokens:>6}  {why}".rstrip())
    lines += ["", "messages"]
    for message in view.messages:
        lines.append(f"[{message.role}]")
        lines += [f"  {line}" for line in message.text.splitlines()]
        lines += [f"  calls {call.function.name}({call.function.arguments})" for call in message.tool_calls or ()]
    return "\n".join(lines)
