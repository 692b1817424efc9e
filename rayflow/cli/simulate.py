"""`rayflow simulate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rayflow.cli.options import Format

if TYPE_CHECKING:
    from rayflow.simulation.arrivals import Arrival
    from rayflow.simulation.measures import Result
    from rayflow.simulation.scenario import Scenario


def register(app: typer.Typer) -> None:
    @app.command()
    def simulate(
        scenarios: Annotated[list[Path], typer.Argument(metavar="SCENARIO...", help="Scenario file; two to compare.")],
        compare: Annotated[bool, typer.Option("--compare", help="Set two scenarios side by side.")] = False,
        seed: Annotated[int | None, typer.Option(min=0, help="First seed (default: the scenario's).")] = None,
        seeds: Annotated[int, typer.Option(min=1, max=1000, metavar="K", help="Run with so many seeds.")] = 1,
        set_: Annotated[list[str] | None, typer.Option("--set", metavar="K=V", help="Override a key.")] = None,
        output: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.TABLE,
        plot: Annotated[Path | None, typer.Option(metavar="OUT.html", help="Also draw a page of curves.")] = None,
    ) -> None:
        """Try policies on a modelled or recorded load, on a virtual clock.

        The same scenario and seed give the same result. With --compare both scenarios get the same requests.
        """
        if len(scenarios) != (2 if compare else 1):
            raise typer.BadParameter("give two scenarios with --compare, else one", param_hint="SCENARIO")

        import time

        from rayflow.simulation.reading import read

        begun = time.perf_counter()
        read_in = [read(path, set_ or ()) for path in scenarios]
        # What is compared gets the same requests, so the first scenario's seed is that of both.
        first = read_in[0].seed if seed is None else seed
        runs = [_runs(scenario, range(first, first + seeds)) for scenario in read_in]
        taken_s = time.perf_counter() - begun
        typer.echo(_as_json(runs) if output is Format.JSON else _as_table(runs), nl=False)
        if plot is not None:
            _write(plot, " and ".join(scenario.name for scenario in read_in), runs)
        requests = sum(result.figures["requests"] or 0 for results in runs for result in results)
        typer.echo(f"note: {requests:.0f} requests in {taken_s:.1f} s: {requests / taken_s:.0f} a second", err=True)


def _runs(scenario: Scenario, seeds: Sequence[int]) -> list[Result]:
    from rayflow.simulation.plan import plan
    from rayflow.simulation.simulation import simulate

    recorded = _recorded(scenario)
    planned = plan(scenario, recorded)
    return [simulate(planned, seed, recorded) for seed in seeds]


def _recorded(scenario: Scenario) -> list[Arrival]:
    if scenario.arrivals.file is None:
        return []
    from rayflow.analytics.traces import read_log, read_trace
    from rayflow.simulation.arrivals import Arrival

    path = Path(scenario.arrivals.file)
    rows = read_log(path) if scenario.arrivals.process == "log" else read_trace(path)
    return [Arrival(*row) for row in rows]


def _as_json(runs: Sequence[Sequence[Result]]) -> str:
    import json

    from rayflow.simulation.comparison import plain

    return json.dumps({"results": [[plain(result) for result in results] for results in runs]}, indent=1) + "\n"


def _as_table(runs: Sequence[Sequence[Result]]) -> str:
    from rayflow.simulation.comparison import table

    return table(runs)


def _write(path: Path, title: str, runs: Sequence[Sequence[Result]]) -> None:
    from rayflow.errors import StorageError
    from rayflow.simulation.plot import page

    try:
        path.write_text(page(title, runs), encoding="utf-8")
    except OSError as problem:
        raise StorageError(f"{path} cannot be written: {problem.strerror}", path=str(path)) from problem
