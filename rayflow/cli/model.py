"""`rayflow model`: the offline model on its own."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    model = typer.Typer(no_args_is_help=True, help="Use the offline model on its own. It is no language model.")
    model.command()(serve)
    model.command()(say)
    app.add_typer(model, name="model")


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8090,
    ttft_ms: Annotated[float, typer.Option(help="Milliseconds until the first token.", min=0)] = 0.0,
    tokens_per_s: Annotated[float, typer.Option(help="Tokens a second after the first; 0: all at once.", min=0)] = 0.0,
    output_tokens: Annotated[int | None, typer.Option(help="Length of every answer in tokens.", min=1)] = None,
    error_rate: Annotated[float, typer.Option(help="Share of requests answered with HTTP 500.", min=0, max=1)] = 0.0,
    rate_limit_rate: Annotated[float, typer.Option(help="Share answered with HTTP 429.", min=0, max=1)] = 0.0,
    stall_rate: Annotated[float, typer.Option(help="Share that falls silent in mid-answer.", min=0, max=1)] = 0.0,
    cut_rate: Annotated[float, typer.Option(help="Share cut off in mid-answer.", min=0, max=1)] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the faults; the same seed repeats them.")] = 0,
) -> None:
    """Serve the offline model as an OpenAI-compatible endpoint, with faults on demand."""
    from rayflow.api import model_server
    from rayflow.api.model_faults import Behaviour

    behaviour = Behaviour(
        ttft_ms=ttft_ms,
        tokens_per_s=tokens_per_s,
        output_tokens=output_tokens,
        error_rate=error_rate,
        rate_limit_rate=rate_limit_rate,
        stall_rate=stall_rate,
        cut_rate=cut_rate,
        seed=seed,
    )
    model_server.serve(behaviour, host, port, lambda url: typer.echo(f"offline model at {url}", err=True))


def say(
    text: Annotated[str, typer.Argument(help="What to say to it.")],
    knowledge: Annotated[str | None, typer.Option(help="Text or Markdown file it may answer with.")] = None,
    seed: Annotated[int | None, typer.Option(help="Chooses between equal phrasings.")] = None,
) -> None:
    """Print one answer of the offline model."""
    from rayflow.chat import Message, ModelParams, ModelRequest
    from rayflow.models.offline.model import OfflineModel

    request = ModelRequest([Message("user", text)], ModelParams(seed=seed))
    typer.echo(OfflineModel(knowledge=knowledge).reply(request).text)
