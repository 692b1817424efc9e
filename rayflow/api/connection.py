"""What the server tells of the connection under a request, and does there, beside ASGI."""

from __future__ import annotations

from typing import Final, Protocol

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

SCOPE_KEY: Final = "rayflow.connection"


class Connection(Protocol):
    """The connection of one request."""

    @property
    def gone(self) -> bool:
        """Whether it is closed. What is written then is dropped without a word, and `receive` tells of it only a
        moment later."""
        ...

    def write(self, body: bytes) -> bool:
        """Write more of the answer's body, which has begun. False: it cannot be written at once, so it was not. ASGI's
        `send` passes half a dozen layers, for each piece of a stream."""
        ...


class _Unknown:
    """A server that is not ours."""

    gone = False

    def write(self, body: bytes) -> bool:
        return False


class ServerConnection:
    """One of uvicorn's."""

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    @property
    def gone(self) -> bool:
        cycle = self._cycle
        return cycle.disconnected or cycle.transport.is_closing()

    def write(self, body: bytes) -> bool:
        cycle = self._cycle
        begun = cycle.response_started and not cycle.response_complete
        if not begun or not cycle.chunked_encoding or cycle.flow.write_paused or cycle.disconnected:
            return False
        cycle.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True


def connection_of(scope: Scope) -> Connection:
    found: Connection = scope.get(SCOPE_KEY, _Unknown())
    return found
