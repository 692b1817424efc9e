"""What a model gets, piece by piece, and why each piece is there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from rayflow.chat import Message

Reason = Literal[
    "pinned", "preferences", "session_data", "system_state", "external", "memory", "summary", "relevant", "window",
    "call", "new"
]  # fmt: skip
"""pinned: always there. preferences, session_data, system_state, external: a source. memory: told in
another session, or earlier. summary: stands for turns that
are not there. relevant: the new message asks about it. window: one of the last messages. call: the tool call that a new
result belongs to. new: what the model is to answer."""


class Inclusion(NamedTuple):
    """Why a piece is included. `turn`: its number in the session; 0 where it is no turn, or not one yet."""

    reason: Reason
    tokens: int
    turn: int = 0
    why: str = ""


class Piece(NamedTuple):
    message: Message
    inclusion: Inclusion


class Context(NamedTuple):
    """What a model gets. `budget` and `tokens` in tokens; `left_out`: turns of the session that are not here, by why.
    `summarised`: the last turn that a summary stands for, or could where it had room."""

    pieces: tuple[Piece, ...]
    budget: int
    left_out: dict[str, int]
    summarised: int = 0

    @property
    def tokens(self) -> int:
        return sum(piece.inclusion.tokens for piece in self.pieces)

    @property
    def messages(self) -> list[Message]:
        """For the model: parts that are no turns are one system message at the beginning."""
        parts = [piece.message.text for piece in self.pieces if not _is_said(piece)]
        said = [piece.message for piece in self.pieces if _is_said(piece)]
        return [Message("system", "\n\n".join(parts)), *said] if parts else said

    def validate(self) -> None:
        """Invariants, for tests."""
        turns = [piece.inclusion.turn for piece in self.pieces if piece.inclusion.turn and _is_said(piece)]
        assert turns == sorted(set(turns)), "each turn once, in order"
        fixed = sum(p.inclusion.tokens for p in self.pieces if p.inclusion.reason in ("new", "pinned", "call"))
        assert self.tokens <= max(self.budget, fixed), f"{self.tokens} tokens, {fixed} of them fixed"
        calls: set[str] = set()
        for piece in self.pieces:
            calls |= {call.id for call in piece.message.tool_calls or ()}
            if piece.message.role == "tool" and piece.inclusion.reason != "new":
                assert piece.message.tool_call_id in calls, "a result without its call"


def _is_said(piece: Piece) -> bool:
    return piece.message.role not in ("system", "developer") or piece.inclusion.reason == "new"


def pieces_of(messages: Iterable[Message], tokens: Iterable[int]) -> list[Piece]:
    """New messages: whole, and last."""
    return [Piece(message, Inclusion("new", n)) for message, n in zip(messages, tokens, strict=True)]
