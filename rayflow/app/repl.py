"""The chat in the terminal: one conversation, streamed, with a few commands.

help, metrics, history, clear, quit and exit are commands; everything else is a message. Prompt editing and history
come from prompt_toolkit on a terminal; without one (a pipe, a test) plain lines are read.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rayflow.app.client import SystemClient
from rayflow.chat import Message
from rayflow.errors import NotFound, WorkflowError
from rayflow.ids import new_run_id, new_session_id
from rayflow.messages import GetHistory, Progress, RunRequest, RunResult, Token

HELP = """[bold]help[/]     this list
[bold]metrics[/]  time and tokens of this conversation
[bold]history[/]  what was said
[bold]clear[/]    begin a new conversation
[bold]quit[/]     leave (also: exit, Ctrl-D)"""


@dataclass
class Totals:
    runs: int = 0
    errors: int = 0
    duration_ms: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Repl:
    def __init__(self, client: SystemClient, user_id: str = "", session_id: str | None = None) -> None:
        self._client = client
        self._user_id = user_id
        self._session_id = session_id or new_session_id()
        self._totals = Totals()
        self._console = Console()
        self._commands: dict[str, Callable[[], Awaitable[None]]] = {
            "help": self._help,
            "metrics": self._metrics,
            "history": self._history,
            "clear": self._clear,
        }

    async def loop(self) -> None:
        """Until quit, exit or the end of input."""
        config = self._client.config
        agents = ", ".join(agent.name for agent in config.agents)
        self._console.print(
            f"[bold]{escape(config.name)}[/]  {escape(agents)}   [dim]help for commands, quit to leave[/]"
        )
        read = self._reader()
        while True:
            try:
                line = (await read()).strip()
            except (EOFError, KeyboardInterrupt):
                return
            if line in ("quit", "exit"):
                return
            if not line:
                continue
            try:
                await self._commands.get(line, partial(self._say, line))()
            except WorkflowError as error:
                self._totals.errors += 1
                self._console.print(f"[red]error:[/] {escape(error.message)}")

    def _reader(self) -> Callable[[], Awaitable[str]]:
        if not sys.stdin.isatty():
            return _plain_line
        from prompt_toolkit import PromptSession
        from prompt_toolkit.formatted_text import HTML

        session = PromptSession[str](HTML("<ansicyan><b>you</b></ansicyan> "))
        return session.prompt_async

    async def _say(self, text: str) -> None:
        request = RunRequest(
            run_id=new_run_id(),
            session_id=self._session_id,
            messages=[Message("user", text)],
            user_id=self._user_id,
            client=self._client.address,
            stream=True,
            progress=True,
            channel="cli",
        )
        sent = ""
        several = False
        async for item in self._client.stream(request):
            match item:
                case Progress(event=event) if event.kind == "run.routed":
                    agents = event.data["agents"]
                    several = len(agents) > 1
                    self._console.print(f"[green]{escape(' + '.join(agents))}[/] ", end="")
                case Token() if not several:
                    sent += item.text
                    self._console.out(item.text, end="", highlight=False)
                case RunResult():
                    rest = item.content.removeprefix(sent)
                    self._console.out(rest, highlight=False)
                    self._count(item)

    def _count(self, result: RunResult) -> None:
        self._totals.runs += 1
        self._totals.duration_ms += result.duration_ms
        self._totals.prompt_tokens += result.usage.prompt_tokens
        self._totals.completion_tokens += result.usage.completion_tokens

    async def _help(self) -> None:
        self._console.print(HELP)

    async def _metrics(self) -> None:
        t = self._totals
        mean = t.duration_ms / t.runs if t.runs else 0.0
        table = Table(show_header=False, box=None)
        table.add_row("answers", str(t.runs))
        table.add_row("errors", str(t.errors))
        table.add_row("mean time", f"{mean:.1f} ms")
        table.add_row("tokens", f"{t.prompt_tokens} in, {t.completion_tokens} out")
        table.add_row("session", self._session_id)
        self._console.print(table)

    async def _history(self) -> None:
        try:
            history = await self._client.session(GetHistory("", self._session_id, limit=1000, tail=True))
        except NotFound:
            self._console.print("[dim]nothing was said yet[/]")
            return
        for turn in history.turns:
            self._console.print(f"[bold]{turn.seq:>3} {turn.message.role}[/] {escape(turn.message.text)}")

    async def _clear(self) -> None:
        self._session_id = new_session_id()
        self._totals = Totals()
        self._console.print("[dim]a new conversation[/]")


async def _plain_line() -> str:
    line: str = await asyncio.to_thread(sys.stdin.readline)
    if not line:
        raise EOFError
    return line
