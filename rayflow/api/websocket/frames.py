"""What a client may say on a WebSocket. A message has the fields of POST /chat, and those that are headers there."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rayflow.api.catalogue import Catalogue
from rayflow.api.chat_request import ChatRequest
from rayflow.api.decode import convert, fault
from rayflow.api.headers import Headers
from rayflow.errors import ValidationError

Number = int | Annotated[str, Meta(max_length=255)]
"""The client's own number of what it asks; told again in the answer."""


class SocketMessage(ChatRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`model`: as in POST /v1/chat/completions, in place of `agent`."""

    id: Number | None = None
    model: str | None = None
    idempotency_key: str | None = None
    session_lock: str | None = None

    def asked(self, catalogue: Catalogue) -> ChatRequest:
        """With the agent that `model` names. Raises `ValidationError`, `NotFound`."""
        if self.stream is False:
            raise fault("stream", "answers on a WebSocket are always streamed; remove it")
        if self.model is None:
            return self
        agent = catalogue.agent(self.model) or None
        if self.agent not in (None, agent):
            raise fault("model", "agent names another one")
        return msgspec.structs.replace(self, agent=agent)

    def headers(self) -> Headers:
        """What would be a header of a request."""
        given = {b"idempotency-key": self.idempotency_key, b"x-session-lock": self.session_lock}
        return {name: value.encode() for name, value in given.items() if value is not None}


class Stop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """End a run, or all of this WebSocket."""

    id: Number | None = None
    run_id: str | None = None


class Resume(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The events of a run after number `after`. `session_id`: its session; there is less to search."""

    id: Number | None = None
    run_id: str
    after: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    session_id: str | None = None


class Ping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For clients that cannot send WebSocket's own pings."""

    id: Number | None = None


Frame = SocketMessage | Stop | Resume | Ping
KINDS: dict[str, type[Frame]] = {"message": SocketMessage, "stop": Stop, "resume": Resume, "ping": Ping}


def frame_of(raw: Any) -> Frame:
    """Raises `ValidationError`."""
    if not isinstance(raw, dict):
        raise ValidationError("a frame is a JSON object")
    kind = raw.get("type")
    if not isinstance(kind, str) or kind not in KINDS:
        raise fault("type", f"must be one of {', '.join(KINDS)}")
    return convert({name: value for name, value in raw.items() if name != "type"}, KINDS[kind])


def number_of(raw: Any) -> Number | None:
    """The client's number of a frame that may be wrong otherwise."""
    number = raw.get("id") if isinstance(raw, dict) else None
    return number if isinstance(number, int | str) else None
