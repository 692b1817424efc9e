"""A client that holds a session goes on in it; the runs of others are told to come back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.whole import Call, Speaker, Whole, whole


async def chat(t: Whole, stream: bool = False, path: str = "/chat", **headers: str) -> Call:
    body: dict[str, Any] = {"message": "hi", "session_id": "s", "stream": stream}
    if path != "/chat":
        body = {"model": "auto", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
        headers["x_session_id"] = "s"
    return await Call(t.ingress(), path, body, **headers).done()


async def lock(t: Whole, method: str = "POST", session: str = "s", held: str = "", **body: Any) -> Call:
    headers = {"x_session_lock": held, "content_length": str(len(json.dumps(body))) if body else "0"}
    return await Call(t.ingress(), f"/sessions/{session}/lock", body or None, method, **headers).done()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/chat", "/v1/chat/completions"])
async def test_runs_of_others_are_refused_until_the_lock_is_given_back(stream: bool, path: str) -> None:
    async with whole(Speaker(words=2)) as t:
        await chat(t)
        held = await lock(t, lease_s=60)
        assert (held.status, held.json["session_id"], held.json["lease_s"]) == (200, "s", 60)
        refused = await chat(t, stream, path)
        assert refused.status == 409
        assert b"session-locked" in refused.received
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert "x-should-retry" not in refused.headers
        assert (await chat(t, stream, path, x_session_lock=held.json["token"])).status == 200
        assert (await lock(t, "DELETE", held=held.json["token"])).status == 204
        assert (await chat(t, stream, path)).status == 200
        assert len(await t.turns("s")) == 6


async def test_a_lock_is_renewed_by_its_token_and_by_nothing_else() -> None:
    async with whole(Speaker(words=2)) as t:
        await chat(t)
        token = (await lock(t)).json["token"]
        assert (await lock(t, held=token, lease_s=5)).status == 409
        renewed = await lock(t, token=token)
        assert (renewed.status, renewed.json["token"]) == (200, token)
        assert (await lock(t, token="other")).status == 404
        assert (await lock(t, "DELETE", held="other")).status == 404
        assert (await lock(t, session="none")).status == 404
        assert (await lock(t, lease_s=301)).status == 400
