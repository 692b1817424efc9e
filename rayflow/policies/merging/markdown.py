"""An answer as lines of statements, so that single statements can be left out and the rest still reads well.

A sentence is a statement. Fenced code and tables are one statement each, whatever is in them: half of one is worth
nothing. A rule or any other line without words is kept with what it stands among.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from rayflow.policies.text import words

_ABBREVIATED = "".join(rf"(?<!\b{short}\.)" for short in (r"e\.g", r"i\.e", "cf", "vs", "Dr", "Mr", "Mrs", "Ms"))
SENTENCE_END = re.compile(rf"(?<=[.!?]){_ABBREVIATED}\s+")
_LIST_MARK = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+")
_FENCE = re.compile(r"\s*(```+|~~~+)")
_FENCES = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Statement:
    """`spoken`: its words; none for a rule or a border. `solid`: code or a table, to be kept or left out as it is.
    `number`: its place among the statements with words."""

    text: str
    spoken: tuple[str, ...]
    solid: bool = False
    number: int = -1


@dataclass(frozen=True, slots=True)
class Line:
    """A line, or a whole block of code or table. An empty one has no statements."""

    mark: str
    statements: tuple[Statement, ...]

    @property
    def opens(self) -> bool:
        """A heading, or the introduction of what follows: nothing by itself."""
        return bool(self.statements) and (
            self.statements[0].text.startswith("#") or self.statements[-1].text.rstrip("*_ ").endswith(":")
        )


def parse(text: str) -> list[Line]:
    """The lines of a Markdown text."""
    numbers = count()
    return [
        Line(mark, tuple(replace(s, number=next(numbers)) if s.spoken else s for s in made))
        for mark, made in map(_read, _blocks(text))
    ]


def render(lines: Sequence[Line], say: Callable[[Statement], str]) -> str:
    """The lines, with each statement as `say` puts it, "" to leave it out. A heading, or an introduction, whose content
    was left out goes with it. Empty where nothing with words is left."""
    said = {s.number: say(s) for s in statements(lines)}
    if not any(said.values()):
        return ""
    kept = [(line, _kept(line, said)) for line in lines]
    out: list[str] = []
    for i, (line, text) in enumerate(kept):
        if text is None or (line.opens and _orphaned(kept[i + 1 :])):
            continue
        if text or (out and out[-1]):
            out.append(text)
    return "\n".join(out).strip("\n").rstrip()


def statements(lines: Sequence[Line]) -> list[Statement]:
    """All statements with words, in order."""
    return [statement for line in lines for statement in line.statements if statement.spoken]


def cut(text: str, max_chars: int) -> str:
    """At most `max_chars` characters, ending at the end of a sentence where one lies in the last third. Code that does
    not fit is left out, unless it is all there is."""
    if len(text) <= max_chars:
        return text
    ends = [m.start() for m in SENTENCE_END.finditer(text[: max_chars + 1])]
    text = text[: ends[-1] if ends and ends[-1] > max_chars * 2 // 3 else max_chars]
    fences = list(_FENCES.finditer(text))
    return text[: fences[-1].start()].rstrip() or text if len(fences) % 2 else text


def _blocks(text: str) -> Iterator[list[str]]:
    """Lines; those of a fence or of a table together."""
    block: list[str] = []
    fence = ""
    for line in text.strip().splitlines():
        if fence:
            block.append(line)
            if line.strip() == fence:
                yield block
                block, fence = [], ""
            continue
        table = line.lstrip().startswith("|")
        if block and not table:
            yield block
            block = []
        if found := _FENCE.match(line):
            block, fence = [line], found[1]
        elif table:
            block.append(line)
        else:
            yield [line]
    if block:
        yield block


def _read(block: list[str]) -> tuple[str, tuple[Statement, ...]]:
    """The list mark and the statements of a block."""
    if len(block) > 1 or _FENCE.match(block[0]) or block[0].lstrip().startswith("|"):
        text = "\n".join(block)
        return "", (Statement(text, tuple(words(text)), solid=True),)
    [line] = block
    mark = found[0] if (found := _LIST_MARK.match(line)) else ""
    texts = SENTENCE_END.split(line[len(mark) :]) if line.strip() else []
    return mark, tuple(Statement(text, tuple(words(text))) for text in texts)


def _kept(line: Line, said: Mapping[int, str]) -> str | None:
    """What is left of a line; None where nothing is left of one that had something."""
    texts = [text for s in line.statements if (text := said.get(s.number, s.text))]
    return line.mark + " ".join(texts) if texts or not line.statements else None


def _orphaned(following: list[tuple[Line, str | None]]) -> bool:
    """Whether what a line introduces was there and is gone."""
    gone = False
    for line, text in following:
        if text is None:
            gone = True
        elif line.statements:
            return gone and line.opens
    return gone
