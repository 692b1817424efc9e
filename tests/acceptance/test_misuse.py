"""Broken configuration and broken requests, against the real command: a clear error, and nothing changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.served import Served, rayflow

GOOD = "name: w\nagents:\n  - name: a\n"
BROKEN = {
    "unknown key": (GOOD + "    temprature: 1\n", ["4:5", "agents.0.temprature", "temperature"]),
    "duplicate key": (GOOD + "name: again\n", ["name", "4:1"]),
    "wrong type": (GOOD + "    replicas: {min: many}\n", ["agents.0.replicas.min", "whole number", "many"]),
    "out of range": (GOOD + "    temperature: 9\n", ["agents.0.temperature", "2", "9"]),
    "missing key": ("name: w\n", ["agents"]),
    "unknown model": (GOOD + "    model: gtp\n", ["agents.0.model", "gtp", "offline"]),
    "duplicate agent": (GOOD + "  - name: a\n", ["agents.1.name"]),
    "missing variable": (GOOD + "    system_prompt: ${NOT_SET_ANYWHERE}\n", ["NOT_SET_ANYWHERE"]),
    "syntax": ("name: w\nagents: [\n", ["w.yaml:"]),
    "alias": ("name: w\nagents: &a\n  - name: b\nmodels: *a\n", ["alias"]),
    "two documents": (GOOD + "---\n" + GOOD, ["document"]),
    "min above max": (GOOD + "    replicas: {min: 9, max: 2}\n", ["replicas"]),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_workflow_file_is_refused_and_nothing_is_started(kind: str, tmp_path: Path) -> None:
    text, said = BROKEN[kind]
    (tmp_path / "w.yaml").write_text(text)
    done = rayflow("serve", "w.yaml", "--port", "0", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "w.yaml" in done.stderr
    for words in said:
        assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.yaml"]


USER = [{"role": "user", "content": "hi"}]
CHAT = "/v1/chat/completions"
REQUESTS: dict[str, tuple[str, str, object, int]] = {
    "not json": ("POST", CHAT, b"{", 400),
    "empty body": ("POST", CHAT, b"", 400),
    "not an object": ("POST", CHAT, [1], 400),
    "not utf-8": ("POST", CHAT, b'{"model": "\xff"}', 400),
    "duplicate key": ("POST", CHAT, b'{"model": "auto", "model": "auto", "messages": []}', 400),
    "NaN": ("POST", CHAT, b'{"model": "auto", "temperature": NaN}', 400),
    "deep": ("POST", CHAT, b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
    "too large": ("POST", CHAT, {"model": "auto", "messages": [{"role": "user", "content": "x" * (1 << 20)}]}, 413),
    "no messages": ("POST", CHAT, {"model": "auto"}, 400),
    "empty messages": ("POST", CHAT, {"model": "auto", "messages": []}, 400),
    "unknown model": ("POST", CHAT, {"model": "nobody", "messages": USER}, 404),
    "unknown role": ("POST", CHAT, {"model": "auto", "messages": [{"role": "boss", "content": "hi"}]}, 400),
    "number as content": ("POST", CHAT, {"model": "auto", "messages": [{"role": "user", "content": 7}]}, 400),
    "unknown parameter": ("POST", CHAT, {"model": "auto", "messages": USER, "temprature": 1}, 400),
    "temperature out of range": ("POST", CHAT, {"model": "auto", "messages": USER, "temperature": 99}, 400),
    "several answers": ("POST", CHAT, {"model": "auto", "messages": USER, "n": 3}, 400),
    "stream as text": ("POST", CHAT, {"model": "auto", "messages": USER, "stream": "yes"}, 400),
    "message too long": ("POST", CHAT, {"model": "auto", "messages": [{"role": "user", "content": "x" * 10_001}]}, 400),
    "wrong method": ("GET", CHAT, None, 405),
    "unknown path": ("POST", "/v1/nothing", {}, 404),
    "native without message": ("POST", "/chat", {}, 400),
    "native unknown field": ("POST", "/chat", {"message": "hi", "mesage": "hi"}, 400),
    "unknown session": ("GET", "/sessions/none", None, 404),
    "history page out of range": ("GET", "/sessions/none/history?limit=-1", None, 400),
    "bad session id": ("POST", "/sessions", {"session_id": "a b\n"}, 400),
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_broken_request_gets_a_clear_error_and_changes_nothing(kind: str, team: Served) -> None:
    answer, session = team.chat("Remember the number 48213.")
    before = team.history(session)
    method, path, body, expected = REQUESTS[kind]
    status, headers, raw = team.request(method, path, body, {"x-session-id": session})
    assert (status, raw[:300]) == (expected, raw[:300])
    found = json.loads(raw)
    if path.startswith("/v1"):
        assert found["error"]["message"]
        assert found["error"]["code"]
    else:
        assert headers["content-type"].startswith("application/problem+json")
        assert found["type"].startswith("urn:rayflow:problem:")
        assert found["detail"]
    assert b"Traceback" not in raw
    assert team.history(session) == before
    assert answer


def test_serving_beyond_loopback_without_a_key_is_refused(tmp_path: Path) -> None:
    done = rayflow("serve", "--host", "0.0.0.0", "--port", "0", cwd=tmp_path)
    assert done.returncode == 3
    assert "security.api_keys" in done.stderr
    assert not list(tmp_path.iterdir())
