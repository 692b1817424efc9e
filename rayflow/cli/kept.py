"""Commands on what is kept of sessions and users: asking for it, and making sure before it is erased."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

if TYPE_CHECKING:
    from rayflow.app.client import SystemClient

T = TypeVar("T")


def ask(
    workflow: Path | None,
    state: Path | None,
    question: Callable[[SystemClient], Awaitable[T]],
    *,
    make: bool = False,
) -> T:
    """The answer to `question`, whether a system runs or not. For `make` and what it raises see `open_sessions`."""
    import asyncio

    from rayflow.app.session_access import open_sessions

    async def answer() -> T:
        async with open_sessions(workflow, state, make=make) as client:
            return await question(client)

    return asyncio.run(answer())


def confirm_erasure(what: str, user: str, tenant: str, yes: bool) -> str:
    """Ask whether `what` of a user is to be erased, unless `yes` says so. Returns the user, in words."""
    whose = f"user {user} of {tenant}" if tenant else f"user {user}"
    if not yes:
        typer.confirm(f"Delete {what} of {whose} for good?", abort=True, err=True)
    return whose
