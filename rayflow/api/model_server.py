"""The offline model as a standalone OpenAI-compatible endpoint: for rehearsals, tests and load.

It answers what the embedded offline model answers, at a pace, length and fault rate of your choice (`Behaviour`),
over a real socket, so that clients, timeouts and retries meet what they will meet at a real endpoint. It takes any
key and any model name, and says in `/v1/models` that it is no language model.
"""

from __future__ import annotations

import itertools
import logging
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rayflow.api.model_answer import Answer, Unfinishable
from rayflow.api.model_faults import Behaviour, Fault
from rayflow.chat import Message, ModelParams, ModelReply, ModelRequest, Usage
from rayflow.errors import BodyTooLarge, InvalidJson, Unavailable, ValidationError
from rayflow.models.offline import tokens, vectors
from rayflow.models.offline.model import DESCRIPTION, OfflineModel

MAX_BODY_BYTES = 8 << 20
RETRY_AFTER_S = 1
MAX_INPUTS = 2048

_JSON = "application/json"
_encode = msgspec.json.encode


class ChatCall(NamedTuple):
    """A decoded request body."""

    request: ModelRequest
    stream: bool
    include_usage: bool


class ModelServer:
    """The ASGI application is `app`; requests are numbered from 0 in order of arrival."""

    def __init__(self, behaviour: Behaviour | None = None, model: OfflineModel | None = None) -> None:
        self.behaviour = behaviour or Behaviour()
        self.model = model or OfflineModel()
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/embeddings", self._embeddings, methods=["POST"]),
                Route("/v1/models", self._models),
                Route("/v1/models/{model:path}", self._models),
                Route("/healthz", self._health),
            ],
            exception_handlers={ValidationError: _refuse, HTTPException: _refuse_route},
        )
        self._numbers = itertools.count()

    async def _chat(self, request: Request) -> Response:
        call = parse(await _body(request))
        draw = self.behaviour.draw(next(self._numbers))
        if draw.fault is Fault.ERROR:
            return error_response(500, "injected fault (error_rate)", "server_error")
        if draw.fault is Fault.RATE_LIMIT:
            said = {"retry-after": str(RETRY_AFTER_S)}
            return error_response(429, "injected fault (rate_limit_rate)", "rate_limit_error", headers=said)
        reply = _sized(self.model.reply(call.request), self.behaviour.output_tokens, call.request.params)
        answer = Answer(reply, self.behaviour, draw)
        if call.stream:
            return Unfinishable(answer.events(call.include_usage), draw.fault, "text/event-stream")
        body = _encode(answer.completion())
        return Unfinishable(answer.whole(body), draw.fault, _JSON, {"content-length": str(len(body))})

    async def _embeddings(self, request: Request) -> Response:
        """Hashed words (`models.offline.vectors`): they find equal words, and know nothing of meaning."""
        texts, model = parse_embeddings(await _body(request))
        draw = self.behaviour.draw(next(self._numbers))
        if draw.fault is Fault.ERROR:
            return error_response(500, "injected fault (error_rate)", "server_error")
        if draw.fault is Fault.RATE_LIMIT:
            said = {"retry-after": str(RETRY_AFTER_S)}
            return error_response(429, "injected fault (rate_limit_rate)", "rate_limit_error", headers=said)
        data = [
            {"object": "embedding", "index": number, "embedding": vectors.vector(text)}
            for number, text in enumerate(texts)
        ]
        used = sum(map(tokens.count, texts))
        usage = {"prompt_tokens": used, "total_tokens": used}
        return _json({"object": "list", "data": data, "model": model, "usage": usage})

    async def _models(self, request: Request) -> Response:
        entry = {
            "id": self.model.name,
            "object": "model",
            "created": 0,
            "owned_by": "rayflow (no language model)",
            "description": DESCRIPTION,
        }
        wanted = request.path_params.get("model")
        if wanted is None:
            return _json({"object": "list", "data": [entry]})
        if wanted != self.model.name:
            return error_response(404, f"there is no model {wanted!r}", code="model_not_found", param="model")
        return _json(entry)

    async def _health(self, _: Request) -> Response:
        return _json({"status": "ok"})


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Body(msgspec.Struct):
    """What a request says beside the options of `ModelParams`."""

    model: str
    messages: list[Message]
    n: int | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


def parse(body: bytes) -> ChatCall:
    """A chat completion request. Raises `ValidationError`; its `param` names the field."""
    try:
        raw = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidJson(f"the body is not a JSON object: {error}") from None
    if isinstance(raw.get("stop"), str):
        raw["stop"] = [raw["stop"]]
    try:
        said = msgspec.convert(raw, _Body)
        params = msgspec.convert(raw, ModelParams)
    except msgspec.ValidationError as error:
        raise ValidationError(str(error), param=_param(str(error))) from None
    if not said.messages:
        raise ValidationError("messages: expected at least one message", param="messages")
    if said.n not in (None, 1):
        raise ValidationError("n: this endpoint gives one choice", param="n")
    include_usage = said.stream_options is not None and said.stream_options.include_usage is True
    return ChatCall(ModelRequest(said.messages, params), said.stream is True, include_usage)


class _EmbeddingsBody(msgspec.Struct):
    input: str | list[str]
    model: str
    encoding_format: str | None = None


def parse_embeddings(body: bytes) -> tuple[list[str], str]:
    """The texts and the model of an embeddings request. Raises `ValidationError`."""
    try:
        said = msgspec.json.decode(body, type=_EmbeddingsBody)
    except msgspec.ValidationError as error:
        raise ValidationError(str(error), param=_param(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidJson(f"the body is not a JSON object: {error}") from None
    texts = [said.input] if isinstance(said.input, str) else said.input
    if not texts or len(texts) > MAX_INPUTS:
        raise ValidationError(f"input: expected 1 to {MAX_INPUTS} texts, got {len(texts)}", param="input")
    if said.encoding_format not in (None, "float"):
        raise ValidationError("encoding_format: this endpoint gives float", param="encoding_format")
    return texts, said.model


def error_response(
    status: int,
    message: str,
    kind: str = "invalid_request_error",
    *,
    param: str | None = None,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """An error in OpenAI's shape."""
    return _json({"error": {"message": message, "type": kind, "param": param, "code": code}}, status, headers)


def make_server(application: ModelServer) -> uvicorn.Server:
    """A uvicorn server for it, to be run on sockets of the caller's."""
    logging.getLogger("uvicorn.error").addFilter(_is_no_cut)
    config = uvicorn.Config(
        application.app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises `Unavailable` where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port"
        ) from error


def serve(behaviour: Behaviour, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until interrupted. `ready` is told the base URL. Raises `Unavailable` where the address is taken."""
    with listen(host, port) as listener:
        bound = listener.getsockname()[1]
        ready(f"http://{f'[{host}]' if ':' in host else host}:{bound}/v1")
        with suppress(KeyboardInterrupt):
            make_server(ModelServer(behaviour)).run(sockets=[listener])


def _sized(reply: ModelReply, output_tokens: int | None, params: ModelParams) -> ModelReply:
    """The reply padded (by repeating it) or cut to `output_tokens`; the request's own limit still holds."""
    if output_tokens is None or reply.tool_calls:
        return reply
    limit = params.max_completion_tokens or params.max_tokens or output_tokens
    length = min(output_tokens, limit)
    text = reply.text if tokens.count(reply.text) else "ok"
    text = tokens.cut(f"{text} " * -(-length // tokens.count(text)), length)
    return msgspec.structs.replace(
        reply,
        text=text,
        finish_reason="length" if limit < output_tokens else "stop",
        usage=Usage(reply.usage.prompt_tokens, length),
    )


async def _body(request: Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise BodyTooLarge(f"the body is larger than {MAX_BODY_BYTES} bytes")
    return b"".join(parts)


def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, ValidationError)
    return error_response(error.status, error.message, param=error.details.get("param"), code=error.slug)


def _refuse_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path}: {error.detail}"
    return error_response(error.status_code, what, headers=dict(error.headers or {}))


def _param(message: str) -> str | None:
    """The field a decoding error is about: "... missing required field `role` - at `$.messages[0]`"."""
    place = re.search(r"at `\$\.?([^`]*)`", message)
    missing = re.search(r"missing required field `([^`]*)`", message)
    return ".".join(found[1] for found in (place, missing) if found and found[1]) or None


def _json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(_encode(value), status, headers, _JSON)


def _is_no_cut(record: logging.LogRecord) -> bool:
    """A cut is meant; uvicorn need not report it."""
    return "without completing response" not in record.getMessage()
