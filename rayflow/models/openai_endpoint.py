"""A model behind an OpenAI-compatible endpoint.

The openai package keeps what it is good at: addresses, authentication, headers, variants. The hot path is ours: the
request is encoded once by msgspec, carried by one of two lanes (`lanes`), and the raw answer is decoded by `wire`. That
costs a fraction of `chat.completions.create`, whose walk over the parameters grows with the history and whose stream
parser builds objects per token (docs/performance.md). The SDK never retries; the agent does, by policy, where it can
see the deadline.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Literal

import msgspec

from rayflow.chat import ModelChunk, ModelReply, ModelRequest
from rayflow.config.schema import Timeouts
from rayflow.context import context
from rayflow.errors import ModelError, ModelTimeout
from rayflow.models.connect import connect
from rayflow.models.deadlines import Deadlines, Late, Phase
from rayflow.models.lanes import BROKEN, CHAT, Answer, NoAnswer, read_whole
from rayflow.models.sse import SSEDecoder, StreamTooLarge
from rayflow.models.upstream import error_message
from rayflow.models.wire import StreamedAnswer, read_completion

TRAILER_S = 2.0
"""How long usage and `[DONE]` are waited for after the finish reason."""
DRAIN_S = 0.1
"""How long the end of the body is waited for after `[DONE]`; a connection read to its end can be used again."""


class OpenAIEndpoint:
    """Implements `ModelClient` (rayflow.runtime.ports). `base_url` includes the version path; None is OpenAI's own."""

    def __init__(
        self,
        model: str,
        *,
        api_key: str,
        base_url: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
        lane: Literal["fast", "sdk"] = "fast",
    ) -> None:
        self._model = model
        self._timeouts = timeouts or Timeouts()
        self._lane, self._upstream = connect(
            model,
            CHAT,
            self._timeouts,
            api_key=api_key,
            base_url=base_url,
            organization=organization,
            project=project,
            headers=headers,
            lane=lane,
        )

    async def complete(self, request: ModelRequest) -> ModelReply:
        """One whole answer, within the connect and total limits: there is no first token to wait for."""
        deadlines = Deadlines(self._timeouts, request.deadline_s)
        body = self._encode(request, stream=False)
        try:
            response = await self._send(body, deadlines, "total")
            try:
                answer = await deadlines.within("total", read_whole(response))
            finally:
                await response.close()
        except Late as late:
            raise self._upstream.fault(ModelTimeout, str(late), phase=late.phase) from None
        except StreamTooLarge as error:
            raise self._upstream.fault(ModelError, str(error)) from None
        except BROKEN as error:
            what = f"the connection broke in the middle of the answer ({type(error).__name__})"
            raise self._upstream.fault(ModelError, what) from error
        finally:
            deadlines.close()
        return read_completion(answer, self._upstream, len(body))

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """The answer in pieces: what arrives in one read is one piece."""
        deadlines = Deadlines(self._timeouts, request.deadline_s)
        body = self._encode(request, stream=True)
        answer = StreamedAnswer(self._upstream, len(body))
        try:
            response = await self._send(body, deadlines, "first_token")
            try:
                await self._require_events(response, deadlines)
                events = SSEDecoder()
                while read := response.ready() or await _next_read(response, answer, deadlines):
                    if chunk := answer.take(events.feed(read)):
                        yield chunk
            finally:
                await response.close()
        except Late as late:
            raise self._upstream.fault(ModelTimeout, str(late), phase=late.phase, partial=answer.partial) from None
        except StreamTooLarge as error:
            raise answer.incomplete(str(error)) from None
        except BROKEN as error:
            raise answer.incomplete(f"the connection broke in mid-stream ({type(error).__name__})") from error
        finally:
            deadlines.close()
        yield answer.end()

    async def close(self) -> None:
        await self._lane.close()

    def _encode(self, request: ModelRequest, stream: bool) -> bytes:
        params = {
            name: value
            for name in request.params.__struct_fields__
            if (value := getattr(request.params, name)) is not None
        }
        body = {"model": self._model, "messages": request.messages, **params}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return msgspec.json.encode(body)

    async def _send(self, body: bytes, deadlines: Deadlines, phase: Phase) -> Answer:
        """The head of a good answer; its body is read by the caller, who must close it."""
        ambient = context.get()
        try:
            answer = await deadlines.within(phase, self._lane.send(body, ambient.traceparent if ambient else ""))
        except NoAnswer as error:
            raise self._upstream.connection_fault(error, self._timeouts.connect_s) from error.__cause__
        if 200 <= answer.status < 300:
            return answer
        try:
            said = await deadlines.within(phase, read_whole(answer))
        except (StreamTooLarge, BROKEN):
            said = b""
        finally:
            await answer.close()
        raise self._upstream.status_fault(answer.status, answer.headers, said)

    async def _require_events(self, response: Answer, deadlines: Deadlines) -> None:
        kind = response.headers.get("content-type", "no content type")
        if kind.startswith("text/event-stream"):
            return
        body = await deadlines.within("first_token", read_whole(response))
        said = self._upstream.quote(error_message(body))
        raise self._upstream.fault(ModelError, f"{kind} instead of an event stream: {said}")


async def _next_read(response: Answer, answer: StreamedAnswer, deadlines: Deadlines) -> bytes:
    """The next bytes of the body; none at its end.

    A finished answer is whole whatever happens next, so the rest of its stream is waited for only briefly.
    """
    if not answer.finished:
        if answer.done:
            return b""
        return await deadlines.within("between_tokens" if answer.started else "first_token", response.read())
    try:
        return await deadlines.within("between_tokens", response.read(), DRAIN_S if answer.done else TRAILER_S)
    except (Late, BROKEN):
        return b""
