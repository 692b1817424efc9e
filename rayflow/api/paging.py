"""Pages of OpenAI's lists: `after` names the last one of the page before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

from starlette.requests import Request

from rayflow.api.decode import fault


class Identified(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=Identified)


class Page(NamedTuple):
    """What a request asks for."""

    after: str
    limit: int

    @classmethod
    def of(cls, request: Request, default: int = 20, most: int = 100) -> Page:
        """Raises `ValidationError`."""
        given = request.query_params.get("limit", str(default))
        if not (given.isascii() and given.isdigit() and len(given) < 9 and 1 <= int(given) <= most):
            raise fault("limit", f"must be a whole number from 1 to {most}")
        return cls(request.query_params.get("after", ""), int(given))

    def cut(self, things: Sequence[T]) -> tuple[Sequence[T], bool]:
        """The page of all things, and whether more follow. Raises `ValidationError` where `after` is none of them."""
        begin = 0
        if self.after:
            begin = next((place for place, thing in enumerate(things, 1) if thing.id == self.after), -1)
            if begin < 0:
                raise fault("after", "is none of this list")
        return things[begin : begin + self.limit], begin + self.limit < len(things)
