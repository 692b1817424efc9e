"""The shell of `rayflow query`: SQL that ends with `;`, and commands that begin with a dot.

Every statement is asked of the log as it is then. Tables and settings of one's own live as long as the shell. Whatever
goes wrong with a statement ends that statement and nothing else; Ctrl-C breaks off the one that runs.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rayflow.analytics.database import Log, Params
from rayflow.analytics.named import NamedQuery, named_query
from rayflow.app.answers import Answers
from rayflow.app.asking import ask, watch
from rayflow.app.sql_vocabulary import SqlCompleter, Vocabulary, learn
from rayflow.errors import ValidationError, WorkflowError

COMMANDS = {
    ".help": "",
    ".tables": "",
    ".schema": "VIEW",
    ".queries": "",
    ".run": "NAME PARAM=VALUE ...",
    ".format": "table|json|jsonl|csv",
    ".timing": "on|off",
    ".watch": "SECONDS",
    ".quit": "",
}
"""Each with what it takes. In `a|b` it is one of them."""

HELP = """\
SQL; several lines until a line ends with ;      Ctrl-C breaks off, Ctrl-D leaves
.tables                    the views, and tables of your own
.schema VIEW               its columns
.queries                   the named queries
.run NAME PARAM=VALUE ...  ask one of them
.format table|json|jsonl|csv
.timing on|off             tell how long answers take
.watch SECONDS             ask the last question again and again, until Ctrl-C
.quit                      leave
"""

Reader = Callable[[], str]
"""The next statement or command. Raises `EOFError` at the end, and `KeyboardInterrupt` for one that is given up."""


class SqlShell:
    def __init__(self, log: Log, queries: Mapping[str, NamedQuery], answers: Answers) -> None:
        self.vocabulary: Vocabulary = learn(log, queries, COMMANDS)
        self._log = log
        self._queries = queries
        self._answers = answers
        self._timing = False
        self._last: tuple[str, Params] | None = None
        self._told: set[Path] = set()

    def loop(self, read: Reader) -> None:
        """Until `.quit` or the end of input."""
        while True:
            try:
                text = read().strip()
                if text in (".quit", ".exit"):
                    return
                if text:
                    self.do(text)
            except EOFError:
                return
            except KeyboardInterrupt:
                continue
            except WorkflowError as error:
                sys.stderr.write(f"error: {error.message}\n")

    def do(self, text: str) -> None:
        """One statement or command. Raises `WorkflowError`."""
        if not text.startswith("."):
            self._ask(text, None)
            return
        command, *given = text.removesuffix(";").split()
        match command, given:
            case ".help", []:
                sys.stdout.write(HELP)
            case ".tables", []:
                self._ask(
                    "SELECT table_name AS name, table_type AS type FROM information_schema.tables"
                    " WHERE table_name NOT IN ('segments', 'open_rows') ORDER BY name"
                )
            case ".schema", [view]:
                quoted = view.replace('"', '""')
                self._ask(f'SELECT column_name AS name, column_type AS type FROM (DESCRIBE FROM "{quoted}")')
            case ".queries", []:
                for query in self._queries.values():
                    sys.stdout.write(f"{' '.join([query.name, *query.signature])}\n    {query.description}\n")
            case ".run", [name, *pairs]:
                query = named_query(name, self._queries)
                self._ask(query.sql, query.bind(dict(map(_pair, pairs))))
            case ((".format" | ".timing"), [choice]) if choice in COMMANDS[command].split("|"):
                if command == ".format":
                    self._answers.encoding = choice
                else:
                    self._timing = choice == "on"
            case ".watch", [seconds]:
                self._watch(seconds)
            case _ if command in COMMANDS:
                raise ValidationError(f"expected: {command} {COMMANDS[command]}".rstrip(), param=command)
            case _:
                raise ValidationError(f"there is no command {command}; .help shows them all", param=command)

    def _ask(self, sql: str, params: Params = None) -> None:
        self._last = sql, params
        began = time.monotonic()
        self._log.refresh()
        answer = ask(self._log, sql, params)
        took_s = time.monotonic() - began
        self._answers.show(answer)
        for path in self._log.unreadable.keys() - self._told:
            sys.stderr.write(f"warning: {path} is left out of answers: {self._log.unreadable[path]}\n")
            self._told.add(path)
        if self._timing:
            sys.stderr.write(f"{answer.num_rows} rows in {took_s:.3f} s\n")

    def _watch(self, seconds: str) -> None:
        try:
            every_s = max(float(seconds), 0.1)
        except ValueError:
            raise ValidationError(f"expected: .watch SECONDS, got {seconds!r}", param=".watch") from None
        if self._last is None:
            raise ValidationError("there is no question yet to be asked again", param=".watch")
        sql, params = self._last
        self._answers.redraw = True
        try:
            watch(every_s, lambda: self._ask(sql, params))
        finally:
            self._answers.redraw = False


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise ValidationError(f"expected PARAM=VALUE, got {text!r}", param=".run")
    return name, value


def complete(text: str) -> bool:
    """Whether what has been typed is to be done, not gone on with in the next line."""
    stripped = text.strip()
    return not stripped or stripped.startswith(".") or stripped.endswith(";")


def plain_reader() -> Reader:
    """Reads stdin, where nobody types."""

    def read() -> str:
        text = ""
        for line in sys.stdin:
            text += line
            if complete(text):
                return text
        if not text.strip():
            raise EOFError
        return text

    return read


def terminal_reader(vocabulary: Vocabulary) -> Reader:
    """Line editing, completion and a history in the user's state folder; `plain_reader` where there is no terminal."""
    if not sys.stdin.isatty():
        return plain_reader()
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()

    @keys.add("enter")
    def enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if complete(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    session = PromptSession[str](
        "rayflow> ",
        multiline=True,
        prompt_continuation="    ...> ",
        completer=SqlCompleter(vocabulary),
        complete_while_typing=False,
        history=FileHistory(history_file()),
        key_bindings=keys,
    )
    return session.prompt


def history_file() -> Path:
    """Only its owner may read it: questions may name people."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(home) / "rayflow" / "query_history"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    return path
