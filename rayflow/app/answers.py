"""Where answers go: to the terminal as tables that fit, to pipes and files as other programs read them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pyarrow as pa

from rayflow.analytics.export import write_file, write_stream
from rayflow.analytics.render import to_text

TABLE = "table"
TERMINAL_ROWS = 1000
"""More rows than this nobody reads: a terminal is shown the first ones, unless asked otherwise."""
_CLEAR = "\x1b[H\x1b[2J\x1b[3J"


class Answers:
    """`encoding`: `TABLE`, or one of rayflow.analytics.export. `limit`: rows shown at most. `out`: a file to be written
    in place of stdout. `redraw`: on a terminal, an answer takes the place of the one before."""

    def __init__(self, encoding: str = TABLE, limit: int | None = None, out: Path | None = None) -> None:
        self.encoding = encoding
        self.redraw = False
        self._limit = limit
        self._out = out

    def show(self, answer: pa.Table) -> None:
        """What is not shown of it, a note on stderr says. Raises `StorageError` where a file cannot be written."""
        looking = self._out is None and self.encoding == TABLE and sys.stdout.isatty()
        most = self._limit or (TERMINAL_ROWS if looking else None)
        shown = answer if most is None else answer.slice(0, most)
        if self._out is not None:
            write_file(shown, self.encoding, self._out)
            _note(f"{shown.num_rows} rows are in {self._out}")
        elif self.encoding == TABLE:
            self._table(shown, shutil.get_terminal_size().columns if looking else None)
        else:
            sys.stdout.flush()
            write_stream(shown, self.encoding, sys.stdout.buffer)
            sys.stdout.flush()
        if shown.num_rows < answer.num_rows:
            why = "--limit" if self._limit else "the length of a screen; --limit ROWS shows more"
            _note(f"{shown.num_rows} of {answer.num_rows} rows; the rest is cut by {why}")

    def _table(self, shown: pa.Table, width: int | None) -> None:
        text, cut = to_text(shown, width)
        sys.stdout.write(_CLEAR + text if self.redraw and width is not None else text)
        sys.stdout.flush()
        if cut:
            _note(f"{cut} cells are cut to fit the width; --format json shows all of them")


def _note(text: str) -> None:
    sys.stderr.write(f"note: {text}\n")
