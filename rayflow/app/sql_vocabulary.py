"""What may be typed in the SQL shell, and how it is completed: what the database knows, nothing that is listed here."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from rayflow.analytics.database import Log
from rayflow.analytics.named import NamedQuery

_WORD = string.ascii_letters + string.digits + "_"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """`columns`: of each view and table. `commands`: those that begin with a dot, with what each takes."""

    columns: Mapping[str, list[str]]
    keywords: list[str]
    functions: list[str]
    queries: Mapping[str, NamedQuery]
    commands: Mapping[str, str]


def learn(log: Log, queries: Mapping[str, NamedQuery], commands: Mapping[str, str]) -> Vocabulary:
    columns: dict[str, list[str]] = {}
    found = log.query(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal ORDER BY table_name, column_index"
    )
    for row in found.to_pylist():
        columns.setdefault(row["table_name"], []).append(row["column_name"])
    keywords = log.query("SELECT upper(keyword_name) AS word FROM duckdb_keywords() ORDER BY word")
    functions = log.query(
        "SELECT DISTINCT function_name AS word FROM duckdb_functions()"
        r" WHERE regexp_matches(function_name, '^[a-z]\w+$') ORDER BY word"
    )
    return Vocabulary(columns, keywords["word"].to_pylist(), functions["word"].to_pylist(), queries, commands)


class SqlCompleter(Completer):
    def __init__(self, vocabulary: Vocabulary) -> None:
        self._known = vocabulary

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        text = document.text_before_cursor
        if text.startswith("."):
            yield from self._command(text)
            return
        word = text[len(text.rstrip(_WORD)) :]
        if not word and not complete_event.completion_requested:
            return
        yield from _matching(word, self._sql(document.text))

    def _sql(self, text: str) -> Iterator[tuple[str, str]]:
        """Words with what they are, the likeliest first."""
        known = self._known
        named = [view for view in known.columns if re.search(rf"\b{re.escape(view)}\b", text)]
        columns = dict.fromkeys(column for view in named or known.columns for column in known.columns[view])
        yield from ((column, "column") for column in columns)
        yield from ((view, "view") for view in known.columns)
        yield from ((keyword, "keyword") for keyword in known.keywords)
        yield from ((function, "function") for function in known.functions)

    def _command(self, text: str) -> Iterator[Completion]:
        command, *given = text.split(" ")
        if not given:
            yield from _matching(command, self._known.commands.items())
            return
        *before, word = given
        match command, before:
            case ".run", []:
                yield from _matching(word, ((name, query.description) for name, query in self._known.queries.items()))
            case ".run", [name, *_] if name in self._known.queries:
                params = self._known.queries[name].params
                yield from _matching(word, ((f"{param}=", default or "") for param, default in params.items()))
            case ".schema", []:
                yield from _matching(word, ((view, "view") for view in self._known.columns))
            case ((".format" | ".timing"), []):
                yield from _matching(word, ((choice, "") for choice in self._known.commands[command].split("|")))


def _matching(word: str, words: Iterable[tuple[str, str]]) -> Iterator[Completion]:
    begun = word.lower()
    for each, meaning in words:
        if each.lower().startswith(begun):
            yield Completion(each, -len(word), display_meta=meaning)
