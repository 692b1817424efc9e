"""What the edge knows of one request and its answer, for those who handle it."""

from __future__ import annotations

from typing import cast

from starlette.requests import Request
from starlette.types import Message, Scope, Send

from rayflow.api.headers import Headers

SCOPE_KEY = "rayflow"


class Exchange:
    """One request: its id, its checked headers, how far its answer got. `id` is also the id of the run it starts;
    `session_id` is set where one takes part. Both are told in every answer, refusals included. `tenant`: whose key the
    request carries; all that it may see belongs to that tenant."""

    __slots__ = ("_send", "cache", "complete", "headers", "id", "session_id", "status", "tenant")

    def __init__(self, request_id: str, send: Send) -> None:
        self.id = request_id
        self.headers: Headers = {}
        self.session_id = ""
        self.tenant = ""
        self.cache = ""
        """Whether the answer is a kept one, where answers are kept: hit, miss or bypass."""
        self.status = 0
        """Status that was sent; 0 before."""
        self.complete = False
        self._send = send

    @classmethod
    def of(cls, source: Request | Scope) -> Exchange:
        scope = source.scope if isinstance(source, Request) else source
        return cast(Exchange, scope[SCOPE_KEY])

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message["headers"], (b"x-request-id", self.id.encode())]
            if self.session_id:
                headers.append((b"x-session-id", self.session_id.encode()))
            if self.cache:
                headers.append((b"x-rayflow-cache", self.cache.encode()))
            message["headers"] = headers
        elif not message.get("more_body", False):
            self.complete = True
        await self._send(message)
