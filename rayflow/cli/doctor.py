"""`rayflow doctor`: what is wrong with this machine, before it goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rayflow.app.doctor.finding import Finding

COLOURS = {"ok": typer.colors.GREEN, "warn": typer.colors.YELLOW, "fail": typer.colors.RED}


def register(app: typer.Typer) -> None:
    @app.command()
    def doctor(
        state: Annotated[Path, typer.Option("--state", help="State folder.")] = Path(".rayflow"),
        port: Annotated[int, typer.Option(help="Port to serve on.", min=1, max=65535)] = 8080,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    ) -> None:
        """Check this machine: versions, limits, folders, ports, keys. Changes nothing.

        Exits with 6 when something would keep rayflow from serving; warnings do not count.
        """
        from rayflow.app.doctor import examine
        from rayflow.errors import Exit

        findings = examine(state, port)
        typer.echo(_as_json(findings) if as_json else "\n".join(map(_line, findings)))
        raise typer.Exit(Exit.DEPENDENCY if any(f.level == "fail" for f in findings) else Exit.OK)


def _line(finding: Finding) -> str:
    level = typer.style(f"{finding.level:<4}", fg=COLOURS[finding.level])
    return f"{level}  {finding.check:<18}  {finding.found}" + (f"\n{'':26}fix: {finding.fix}" if finding.fix else "")


def _as_json(findings: list[Finding]) -> str:
    import json
    from dataclasses import asdict

    healthy = all(finding.level != "fail" for finding in findings)
    return json.dumps({"healthy": healthy, "checks": [asdict(finding) for finding in findings]})
