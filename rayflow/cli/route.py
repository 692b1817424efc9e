"""`rayflow route`: whom the router would ask and why, and how good it is at that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rayflow.cli.options import Format, Output

if TYPE_CHECKING:
    from rayflow.app.route_check import Evaluation, Explanation

MAX_MISTAKES = 3
"""Agents that a line of the confusion table names."""


Workflow = Annotated[
    Path | None,
    typer.Argument(metavar="WORKFLOW", help="Workflow file.", show_default="rayflow.yaml, else the built-in example"),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as routing.strategy=semantic; repeatable."),
]


def register(app: typer.Typer) -> None:
    route = typer.Typer(help="Try the routing of a workflow; nothing is started.", no_args_is_help=True)
    route.command()(explain)
    route.command()(evaluate)
    app.add_typer(route, name="route")


def explain(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The message.")],
    workflow: Workflow = None,
    output: Output = Format.TABLE,
    overrides: Set = None,
) -> None:
    """Show whom a message would go to, how sure that is, and what speaks for each agent."""
    import asyncio

    from rayflow.app import route_check
    from rayflow.config.load import load_or_example

    config = load_or_example(workflow, overrides or ())
    explanation = asyncio.run(route_check.explain(config, text))
    typer.echo(_explained_json(explanation) if output is Format.JSON else _explained(explanation))


def evaluate(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Labelled messages: JSON lines (.jsonl, .jsonl.gz) with text and label."),
    ],
    train: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Make one agent a label of this file, and teach it its messages."),
    ] = None,
    label: Annotated[
        str, typer.Option(metavar="FIELD", help="Field with the label, or with a list of them.")
    ] = "intent",
    workflow: Annotated[
        Path | None,
        typer.Option(help="Workflow file whose agents are evaluated; without --train.", show_default="rayflow.yaml"),
    ] = None,
    output: Output = Format.TABLE,
    overrides: Set = None,
) -> None:
    """Measure routing on labelled messages: accuracy, what it takes for out of scope, and what its confidence is worth.

    The labels are names of the workflow's agents. With --train there is no workflow: the labels become the agents.
    A message with "oos": true is out of scope: it should go to nobody.
    """
    import asyncio

    from rayflow.app import route_check
    from rayflow.app.labelled import read

    if train is not None and workflow is not None:
        raise typer.BadParameter("give either --train or --workflow")
    rows = read(file, label)
    if train is not None:
        evaluation = asyncio.run(route_check.evaluate_trained(read(train, label), rows, overrides or ()))
    else:
        from rayflow.config.load import load_or_example

        config = load_or_example(workflow, overrides or ())
        evaluation = asyncio.run(route_check.evaluate_workflow(config, rows))
    typer.echo(_evaluated_json(evaluation) if output is Format.JSON else _evaluated(evaluation))


def _explained_json(explanation: Explanation) -> str:
    import json
    from dataclasses import asdict

    decision, evidence = explanation
    return json.dumps(
        {**asdict(decision), "scores": [asdict(entry) for entry in evidence]}, ensure_ascii=False, indent=2
    )


def _explained(explanation: Explanation) -> str:
    decision, evidence = explanation
    to = ", ".join(decision.agents) or f"nobody; the answer is: {decision.declined}"
    lines = [f"to          {to}", f"confidence  {decision.confidence:.3f}", f"strategy    {decision.strategy}"]
    lines += [f"reason      {decision.reason}", ""]
    width = max(len(entry.agent) for entry in evidence)
    for entry in sorted(evidence, key=lambda entry: -entry.confidence):
        lines.append(f"{entry.agent:<{width}}  {entry.confidence:.3f}  {entry.why}".rstrip())
    return "\n".join(lines)


def _evaluated_json(evaluation: Evaluation) -> str:
    import json
    from dataclasses import asdict

    facts = asdict(evaluation)
    return json.dumps(facts | facts.pop("report"), ensure_ascii=False, indent=2)


def _evaluated(evaluation: Evaluation) -> str:
    from dataclasses import asdict

    facts = asdict(evaluation)
    facts |= facts.pop("report")
    confusion: dict[str, dict[str, int]] = facts.pop("confusion")
    width = max(map(len, facts))
    lines = [f"{name:<{width}}  {_shown(value)}" for name, value in facts.items()]
    width = max(map(len, confusion))
    lines += ["", f"{'confusion: right agent':<{max(width, 22)}}  rows  right  asked instead"]
    for right, asked in confusion.items():
        rows = sum(asked.values())
        mistakes = sorted(((n, name) for name, n in asked.items() if name != right), reverse=True)
        named = ", ".join(f"{name} {n}" for n, name in mistakes[:MAX_MISTAKES])
        more = ", ..." if len(mistakes) > MAX_MISTAKES else ""
        lines.append(
            f"{right:<{max(width, 22)}}  {rows:>4}  {asked.get(right, 0) / rows:>5.1%}  {named}{more}".rstrip()
        )
    return "\n".join(lines)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
