"""`rayflow cache`: how the caches of a running system fare, and having kept answers forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rayflow.cli.options import Format, Output

if TYPE_CHECKING:
    from rayflow.messages import CacheCounts

State = Annotated[Path, typer.Option(help="State folder of the system.")]


def register(app: typer.Typer) -> None:
    cache = typer.Typer(help="See how caches fare, and have kept answers forgotten.", no_args_is_help=True)
    cache.command()(stats)
    cache.command()(invalidate)
    app.add_typer(cache, name="cache")


def stats(state: State = Path(".rayflow"), output: Output = Format.TABLE) -> None:
    """Print hits, misses, stores and evictions of all caches of the running system, since its actors started."""
    import asyncio

    from rayflow.app.attach import visit
    from rayflow.app.caches import CacheDesk

    async def look() -> list[CacheCounts]:
        async with visit(state) as (_, client):
            return await CacheDesk(client).counts()

    counts = asyncio.run(look())
    typer.echo(_json(counts) if output is Format.JSON else _table(counts))


def invalidate(
    tenant: Annotated[str, typer.Option(help="Tenant whose answers are forgotten.", show_default=False)] = "",
    agent: Annotated[str, typer.Option(metavar="NAME", help="Only answers in which this agent has a part.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="The answers of all tenants.")] = False,
    state: State = Path(".rayflow"),
) -> None:
    """Have kept answers forgotten by all routers at once. A run that begins afterwards gets none of them."""
    import asyncio

    from rayflow.app.attach import visit
    from rayflow.app.caches import CacheDesk

    if everything and (tenant or agent):
        raise typer.BadParameter("--all goes without --tenant and --agent")

    async def forget() -> None:
        async with visit(state) as (_, client):
            desk = CacheDesk(client)
            await (desk.forget_everything() if everything else desk.forget(tenant, agent))

    asyncio.run(forget())
    typer.echo("forgotten", err=True)


def _json(counts: list[CacheCounts]) -> str:
    import json

    import msgspec

    return json.dumps({"caches": msgspec.to_builtins(counts)}, indent=2)


def _table(counts: list[CacheCounts]) -> str:
    lines = ["cache       level   hits    misses  stores  evicted  entries  hit rate"]
    for each in counts:
        asked = each.hits + each.misses
        rate = f"{each.hits / asked:.0%}" if asked else "-"
        lines.append(
            f"{each.cache:<10}  {each.level:<6}  {each.hits:<6}  {each.misses:<6}  {each.stores:<6}"
            f"  {each.evictions:<7}  {each.entries:<7}  {rate}"
        )
    return "\n".join(lines)
