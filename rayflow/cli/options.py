"""Arguments and options that mean the same in several commands."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"


Output = Annotated[Format, typer.Option("--format", help="How to print it.")]
Session = Annotated[str, typer.Argument(metavar="SESSION", help="Id of the session.")]
SessionTenant = Annotated[str, typer.Option("--tenant", help="Tenant whose session it is.", show_default=False)]
User = Annotated[str, typer.Argument(metavar="USER", help="Id of the user.")]
UserTenant = Annotated[str, typer.Option("--tenant", help="Tenant whose user it is.", show_default=False)]
Workflow = Annotated[
    Path | None,
    typer.Option("--workflow", help="Workflow file, where no system is running.", show_default="rayflow.yaml"),
]
State = Annotated[
    Path | None, typer.Option("--state", help="State folder of the system.", show_default="storage.state")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
