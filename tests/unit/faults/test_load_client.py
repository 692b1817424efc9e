"""How an answer, or the lack of one, is written down."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from faults.client import Client
from faults.operations import Operation, Outcome

CONTENT = b'data: {"choices": [{"delta": {"content": "hello"}, "finish_reason": null}]}\n\n'
ROLE = b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": null}]}\n\n'
STOP = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error": {"code": "peer-lost"}}\n\n'


class Server:
    """Gives its answers one after the other: whole responses, the bytes of a stream, None for a connection that breaks.
    It remembers the keys of the requests."""

    def __init__(self, *answers: web.Response | bytes | None) -> None:
        self._answers = list(answers)
        self.keys: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.keys.append(request.headers["idempotency-key"])
        answer = self._answers.pop(0)
        if isinstance(answer, web.Response):
            return answer
        response = web.StreamResponse(headers={"x-request-id": "run_1"})
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
            return response
        await response.prepare(request)
        await response.write(answer)
        return response


@asynccontextmanager
async def client_of(server: Server) -> AsyncIterator[Client]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with Client(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
        yield client
    await runner.cleanup()


def whole(text: str = "hello", finish: str | None = "stop") -> web.Response:
    choice = {"message": {"content": text}, "finish_reason": finish}
    return web.json_response({"choices": [choice]}, headers={"x-request-id": "run_1"})


def refusal(status: int, code: str) -> web.Response:
    return web.json_response({"error": {"code": code}}, status=status)


async def ask(*answers: web.Response | bytes | None, stream: bool = False) -> tuple[Operation, Server, Client]:
    operation = Operation("s-1", 1, "turn 1 of s-1 for alpha", ("alpha",), stream, key="k-1")
    server = Server(*answers)
    async with client_of(server) as client:
        await client.ask(operation)
    return operation, server, client


async def test_a_complete_body_is_acknowledged() -> None:
    operation, _, _ = await ask(whole())
    assert (operation.outcome, operation.answer, operation.run_id) == (Outcome.OK, "hello", "run_1")
    assert operation.ended_s >= operation.sent_s > 0


async def test_a_stream_is_acknowledged_by_done_after_a_finish_reason() -> None:
    operation, _, _ = await ask(ROLE + CONTENT + CONTENT + STOP + DONE, stream=True)
    assert (operation.outcome, operation.answer, operation.code) == (Outcome.OK, "hellohello", "")
    assert operation.first_byte_s is not None


async def test_a_status_is_a_failure_with_its_code() -> None:
    operation, server, _ = await ask(refusal(503, "peer-lost"))
    assert (operation.outcome, operation.status, operation.code) == (Outcome.FAIL, 503, "peer-lost")
    assert len(server.keys) == 1, "an answer is an answer: nothing is repeated"


async def test_an_error_event_before_the_first_content_is_a_failure() -> None:
    operation, _, _ = await ask(ROLE + ERROR, stream=True)
    assert (operation.outcome, operation.code) == (Outcome.FAIL, "peer-lost")
    assert operation.safe_error


async def test_an_error_event_after_content_is_a_stream_error() -> None:
    operation, _, _ = await ask(ROLE + CONTENT + ERROR, stream=True)
    assert (operation.outcome, operation.code) == (Outcome.STREAM_ERROR, "peer-lost")
    assert not operation.safe_error


@pytest.mark.parametrize("first", [None, CONTENT, ROLE + CONTENT + DONE])
async def test_what_broke_off_is_repeated_once_under_the_same_key(first: bytes | None) -> None:
    operation, server, client = await ask(first, CONTENT + STOP + DONE, stream=True)
    assert (operation.outcome, operation.answer) == (Outcome.OK, "hello")
    assert (operation.attempts, operation.first_attempt) == (2, Outcome.UNKNOWN)
    assert server.keys == ["k-1", "k-1"]
    assert client.retried == 1


async def test_a_repetition_asks_again_while_the_first_one_is_in_progress() -> None:
    operation, server, client = await ask(None, refusal(409, "conflict"), whole())
    assert operation.outcome is Outcome.OK
    assert (len(server.keys), client.retried) == (3, 1)


async def test_two_broken_connections_are_an_unknown_outcome() -> None:
    operation, _, _ = await ask(None, None)
    assert operation.outcome is Outcome.UNKNOWN
    assert operation.safe_error
    assert not operation.definite


async def test_nobody_listening_is_refused() -> None:
    async with client_of(Server()) as client:
        gone = client.url
    operation = Operation("s-1", 1, "turn 1 of s-1 for alpha", ("alpha",), False, key="k-1")
    async with Client(gone) as client:
        await client.ask(operation)
    assert operation.outcome is Outcome.REFUSED
    assert operation.definite
