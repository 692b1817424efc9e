"""A request that names its trace runs in it."""

from __future__ import annotations

import httpx2
import pytest
from api_doubles import ScriptedClient, hello

from rayflow.api.trace import traceparent
from rayflow.context import Context, context
from rayflow.messages import RunRequest

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("header", [TRACE, TRACE.replace("00-", "cc-", 1), TRACE.replace("00-", "cc-", 1) + "-more"])
def test_a_trace_is_taken_as_it_came(header: str) -> None:
    assert traceparent({b"traceparent": header.encode()}) == header


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        TRACE.upper(),
        TRACE + "-more",
        TRACE + "\n",
        TRACE.replace("00-", "ff-", 1),
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
    ],
)
def test_what_is_no_trace_is_ignored(header: str) -> None:
    assert traceparent({b"traceparent": header.encode()}) == ""
    assert traceparent({}) == ""


async def test_the_run_has_the_context_of_its_request_and_no_other(
    client: ScriptedClient, http: httpx2.AsyncClient
) -> None:
    seen = []

    def script(run: RunRequest) -> list[object]:
        seen.append(context.get())
        return hello(run)  # type: ignore[return-value]

    client.script = script  # type: ignore[assignment]
    await http.post("/chat", json={"message": "hi"}, headers={"traceparent": TRACE})
    await http.post("/v1/chat/completions", json={"model": "team", "messages": [{"role": "user", "content": "hi"}]})
    assert seen[0] == Context(TRACE, priority=2)
