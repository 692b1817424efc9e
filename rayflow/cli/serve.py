"""`rayflow serve`, and what is done with the system that it started: `chat`, `status`, `stop` and `reload`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rayflow.cli import reload

if TYPE_CHECKING:
    import msgspec

    from rayflow.api.single import Worker
    from rayflow.app.client import SystemClient
    from rayflow.app.port import Address
    from rayflow.config.schema import WorkflowConfig

FILE = Annotated[
    Path | None,
    typer.Argument(help="Workflow file (default: rayflow.yaml, else the built-in example).", show_default=False),
]
STATE = Annotated[Path | None, typer.Option("--state", help="State folder (default: storage.state, .rayflow).")]
ADDRESS = Annotated[str | None, typer.Option("--address", envvar="RAY_ADDRESS", help="Join this Ray cluster.")]
IN_PROCESS = Annotated[bool, typer.Option("--in-process", help="All actors in this process, without Ray.")]
SET = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the file.")]


def register(app: typer.Typer) -> None:
    app.command()(serve)
    app.command()(chat)
    app.command()(status)
    app.command()(stop)
    reload.register(app)


def serve(
    file: FILE = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks a free one.", min=0, max=65535)] = 8080,
    state: STATE = None,
    address: ADDRESS = None,
    in_process: IN_PROCESS = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="Serve beyond loopback without API keys.")] = False,
    overrides: SET = None,
) -> None:
    """Serve a workflow over HTTP, until Ctrl-C."""
    import uvloop

    from rayflow.app.attach import settled
    from rayflow.app.logs import to_stderr
    from rayflow.app.port import check_exposure
    from rayflow.config.load import load_or_example

    def read(other: Path | None) -> WorkflowConfig:
        config = settled(load_or_example(other or file, overrides or ()), state)
        check_exposure(config, host, insecure)
        return config

    config = read(None)
    to_stderr(config)
    announce = _announce(config)
    if in_process:
        from rayflow.api.single import serve_in_process

        code = uvloop.run(serve_in_process(config, read, host, port, announce, _batch_worker))
    else:
        from rayflow.app.serve import serve as serve_on_ray

        typer.echo(f"starting {config.name} on Ray ...", err=True)
        code = uvloop.run(serve_on_ray(config, read, host, port, address, announce))
    raise typer.Exit(code)


def _batch_worker(client: SystemClient) -> Worker:
    from rayflow.batch.desk import Desk

    return Desk(client, client.config.batch.idle_s)


def _announce(config: WorkflowConfig) -> Callable[[Address, dict[str, float]], None]:
    import time

    began = time.monotonic()

    def say(address: Address, timeline: dict[str, float]) -> None:
        agents = ", ".join(agent.name for agent in config.agents)
        typer.echo(f"serving {config.name} ({agents}) at {address.url}", err=True)
        typer.echo(
            f"  ready in {time.monotonic() - began:.1f} s; state in {config.storage.state}; Ctrl-C stops", err=True
        )
        key = " -H 'Authorization: Bearer KEY'" if config.keyed else ""
        body = '{"model": "auto", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}'
        kind = "-H 'Content-Type: application/json'"
        typer.echo(f"  try: curl -N {address.url}/v1/chat/completions{key} {kind} -d '{body}'", err=True)

    return say


def chat(
    file: FILE = None,
    state: STATE = None,
    address: ADDRESS = None,
    in_process: IN_PROCESS = False,
    user: Annotated[str, typer.Option(help="User id.")] = "",
    session: Annotated[str | None, typer.Option(help="Continue this session.")] = None,
    overrides: SET = None,
) -> None:
    """Chat in the terminal with the served workflow, or with one started for the occasion."""
    import asyncio

    from rayflow.app.attach import open_client
    from rayflow.app.repl import Repl

    async def talk() -> None:
        opened = open_client(file, state=state, address=address, in_process=in_process, overrides=overrides or ())
        async with opened as client:
            await Repl(client, user, session).loop()

    asyncio.run(talk())


def status(
    state: Annotated[Path, typer.Option("--state", help="State folder.")] = Path(".rayflow"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    links: Annotated[bool, typer.Option("--links", help="Show the connections of every process instead.")] = False,
) -> None:
    """Show the actors of the system that serves from a state folder."""
    import asyncio
    import json

    import msgspec

    from rayflow.app.attach import running_links, running_status

    if links:
        _show_links(asyncio.run(running_links(state)), as_json)
        return
    run, found = asyncio.run(running_status(state))
    if as_json:
        typer.echo(json.dumps({"url": run.url, **msgspec.to_builtins(found)}))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"[bold]{found.workflow}[/] {found.state}  {run.url}  (rayflow {found.version})")
    table = Table(box=None)
    for column in ("actor", "state", "pid", "restarts", "up", "detail"):
        table.add_column(column)
    for actor in found.actors:
        up = f"{actor.uptime_s:.0f} s" if actor.uptime_s else ""
        table.add_row(actor.address, actor.state, str(actor.pid or ""), str(actor.restarts), up, actor.detail)
    console.print(table)
    pools = Table(box=None)
    for column in ("agent", "wanted", "ready", "starting", "spare", "scaling"):
        pools.add_column(column)
    for pool in found.pools:
        numbers = (pool.wanted, pool.ready, pool.starting, pool.spares)
        pools.add_row(pool.agent, *map(str, numbers), pool.strategy)
    console.print(pools)


def _show_links(found: Mapping[str, Sequence[msgspec.Struct]], as_json: bool) -> None:
    import json

    import msgspec

    rows = [{"actor": actor, **msgspec.structs.asdict(link)} for actor, links in found.items() for link in links]
    if as_json:
        typer.echo(json.dumps({"links": rows}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*(rows[0] if rows else ()), box=None)
    for row in rows:
        row["peer"] = str(row["peer"]).rpartition("/")[2]
        table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values()))
    Console().print(table)


def stop(state: Annotated[Path, typer.Option("--state", help="State folder.")] = Path(".rayflow")) -> None:
    """Stop the system that serves from a state folder, and wait until it has drained."""
    from rayflow.app.attach import stop_running

    pid = stop_running(state)
    typer.echo(f"stopped process {pid}", err=True)
