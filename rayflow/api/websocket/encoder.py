"""What the server says on a WebSocket: JSON objects, one a line here and one a frame on the wire."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from rayflow.api.chat_answer import metadata_of, told, usage_of
from rayflow.api.problems import problem
from rayflow.api.said import Said
from rayflow.api.websocket.frames import Number
from rayflow.errors import Cancelled, WorkflowError
from rayflow.events import Event
from rayflow.messages import RunResult, Token


def frame(kind: str, *, id: Number | None = None, **facts: Any) -> bytes:
    """`id`: the client's own number, where it gave one."""
    given = {} if id is None else {"id": id}
    return orjson.dumps({"type": kind, **given, **facts}, default=str) + b"\n"


def error_frame(error: WorkflowError, request_id: str, **facts: Any) -> bytes:
    return frame("error", message=error.message, code=error.slug, error=problem(error, request_id), **facts)


class SocketEncoder:
    """One run as frames (an `Encoder`). `after`: number of the last event that the client has; it is not told again
    what comes before. `stopping`: this client asked for the end, so that it is no error."""

    def __init__(self, workflow: str, run_id: str, session_id: str, after: int = 0) -> None:
        self.stopping = False
        self._workflow = workflow
        self._run_id = run_id
        self._session_id = session_id
        self._after = after
        self._sent = Said()

    def token(self, token: Token) -> bytes:
        self._sent[token.agent].append(token.text)
        return self._numbered("token", token.seq, agent=token.agent, content=token.text)

    def progress(self, event: Event) -> bytes:
        return self._numbered("progress", event.seq, event=event.kind, **told(event))

    def result(self, result: RunResult) -> bytes:
        agent, left = self._sent.due(result)
        session = {"session_id": result.session_id}
        metadata = {"agents": result.agents, **msgspec.structs.asdict(metadata_of(result, self._workflow))}
        usage = msgspec.structs.asdict(usage_of(result))
        return b"".join(
            (
                self._numbered("token", result.last_seq - 1, agent=agent, content=left) if left else b"",
                self._numbered("response", result.last_seq, **session, content=result.content, metadata=metadata),
                frame("done", run_id=self._run_id, **session, usage=usage),
            )
        )

    def error(self, error: WorkflowError) -> bytes:
        agent, left = self._sent.due_after(error)
        due = frame("token", run_id=self._run_id, agent=agent, content=left) if left else b""
        return due + (self.stopped(error) if self.stopping and isinstance(error, Cancelled) else self._failed(error))

    def stopped(self, error: Cancelled) -> bytes:
        """`content` is what stays of the answer in its session, where that is known."""
        content = error.details.get("partial", None if self._sent else "")
        known = {} if content is None else {"content": content}
        return frame("stopped", run_id=self._run_id, session_id=self._session_id, **known)

    def _failed(self, error: WorkflowError) -> bytes:
        return error_frame(error, self._run_id, run_id=self._run_id, session_id=self._session_id)

    def _numbered(self, kind: str, seq: int, **facts: Any) -> bytes:
        if 0 < seq <= self._after:
            return b""
        return frame(kind, run_id=self._run_id, seq=seq, **facts)
