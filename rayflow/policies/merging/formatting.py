"""How a joined answer is written: whose words are where, in Markdown or without marks. What agents wrote stays as they
wrote it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rayflow.policies.merging.markdown import cut

GAP = "\n\n"
_STRUCTURE = re.compile(r"\s*(?:[-*+] |\d+[.)] |#|```|~~~|\||>)")


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of the joined answer, and the agents whose words it is. `named`: under their names."""

    agents: tuple[str, ...]
    text: str
    named: bool = False


@dataclass(frozen=True, slots=True)
class Style:
    markdown: bool
    attribution: bool

    def named(self, agents: Sequence[str], text: str) -> str:
        """The text under its agents' names."""
        if not self.attribution:
            return text
        names = ", ".join(agents)
        head = f"**{names}**:" if self.markdown else f"{names}:"
        # A list or a table does not begin in the middle of a line.
        return head + (GAP if _STRUCTURE.match(text) else " ") + text

    def contradicting(self, text: str, agent: str) -> str:
        """A statement that contradicts what another agent said before it."""
        return f"{text} *(contradicts {agent})*" if self.markdown else f"{text} (contradicts {agent})"

    def sources(self, agents: Sequence[str]) -> str:
        names = ", ".join(agents)
        return f"*Sources: {names}*" if self.markdown else f"Sources: {names}"

    def assemble(self, blocks: Sequence[Block], limit: int, sources: bool, whole: int = 0) -> tuple[str, list[str]]:
        """The blocks as one text of at most `limit` characters, and the agents whose words are in it. `sources`: name
        them in a last line, where there are several. The first `whole` characters are never cut."""
        text, agents = _fill(blocks, limit, self, whole)
        if sources and self.attribution and len(agents) > 1:
            room = limit - len(GAP + self.sources(agents))
            shorter, left = _fill(blocks, room, self, whole)
            if len(left) > 1 and room >= whole:
                return shorter + GAP + self.sources(left), left
        return text, agents


def _fill(blocks: Sequence[Block], limit: int, style: Style, whole: int) -> tuple[str, list[str]]:
    """The blocks, cut, and the agents of whom something is left. A name alone is nothing: then the text without it."""
    text, begins = "", list[tuple[int, Block]]()
    for block in blocks:
        written = (GAP if text else "") + (style.named(block.agents, block.text) if block.named else block.text)
        begins.append((len(text + written) - len(block.text), block))
        text += written
    text = text[:whole] + cut(text[whole:], max(limit - whole, 0))
    left = [(begin, block) for begin, block in begins if text[begin:].strip()]
    if not left:
        first = blocks[0]
        return first.text[:whole] + cut(first.text[whole:], max(limit - whole, 0)), list(first.agents)
    if len(left) < len(begins):
        begin, last = left[-1]
        text = text[: begin + len(last.text)]
    return text, list(dict.fromkeys(agent for _, block in left for agent in block.agents))
