"""What is known about a configuration while it is being put together: where each value came from, and what is wrong.

Layers lie above each other: a variable or a flag replaces what the file says, and a `${NAME}` in the file stands for
something that the file does not hold. A problem must name the layer it came from, and must not show what only the
environment knows.
"""

from __future__ import annotations

import dataclasses

from rayflow.config import rules
from rayflow.config.problem import Problem
from rayflow.config.yaml import Positions


class Findings:
    """Collects problems and puts them in their place. `file` is the name to show; None for data made by a program.
    `rule`: what the file may hold, unless it is a workflow file."""

    def __init__(self, file: str | None, positions: Positions | None = None, rule: rules.Rule | None = None) -> None:
        self.file = file
        self.rule = rule or rules.root()
        self.overrides: dict[str, str] = {}
        """Path to what set it: the name of a variable, or `--set`."""
        self.written: dict[str, str] = {}
        """Path to the text that stood there before `${...}` was replaced."""
        self._positions = positions
        self._problems: dict[str, list[Problem]] = {}

    def add(self, key: str, expected: str, got: str, hint: str = "", *, at_key: bool = False) -> None:
        """Report a problem at its value, or `at_key`. Of one key, only the first reporter is heard: what comes later
        only follows from it."""
        if key not in self._problems:
            if (text := self._nearest(self.written, key)) is not None:
                got = f"{text!r} with the variable's value, which is not shown"
            self._problems[key] = [self._placed(Problem(key, expected, got, hint), at_key)]

    def include(self, problems: list[Problem]) -> None:
        """Take over problems that have a place already."""
        for problem in problems:
            self._problems.setdefault(problem.key, []).append(problem)

    @property
    def problems(self) -> list[Problem]:
        """All of them, in the order of the file."""
        problems = [problem for same_key in self._problems.values() for problem in same_key]
        return sorted(problems, key=lambda problem: (problem.line is None, problem.line or 0, problem.column or 0))

    def _placed(self, problem: Problem, at_key: bool) -> Problem:
        if source := self._source(problem.key):
            return dataclasses.replace(problem, file=source)
        if self._positions is None:
            return dataclasses.replace(problem, file=self.file)
        place = self._positions.key(problem.key) if at_key else self._positions.value(problem.key)
        return dataclasses.replace(problem, file=self.file, line=place.line, column=place.column)

    def _source(self, key: str) -> str | None:
        """The override that set the key, a section around it, or (where the file has no such key) something within."""
        if source := self._nearest(self.overrides, key):
            return source
        if not key or (self._positions is not None and key in self._positions):
            return None
        return next((source for path, source in self.overrides.items() if path.startswith(f"{key}.")), None)

    @staticmethod
    def _nearest(known: dict[str, str], path: str) -> str | None:
        """The entry of the path or of the nearest section around it."""
        while path and path not in known:
            path = path.rpartition(".")[0]
        return known.get(path)
