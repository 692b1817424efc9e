"""A workflow served by the real command in a real process, and the ways to look at it and to end it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

START_S = 90.0


def rayflow(
    *arguments: str, cwd: Path | None = None, timeout_s: float = 120, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "rayflow", *arguments],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )


class Served:
    """`url` once it is ready. `log` is what it said on stderr so far."""

    def __init__(self, arguments: Sequence[str], cwd: Path, env: dict[str, str]) -> None:
        self.cwd = cwd
        self.log: list[str] = []
        self._ready = threading.Event()
        self.url = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rayflow", "serve", "--port", "0", *arguments],
            cwd=cwd,
            env={**os.environ, **env},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(START_S) or not self.url:
            self.kill()
            raise AssertionError("not ready: " + "".join(self.log))

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r" at (http://\S+)", line):
                self.url = found[1]
            if line.startswith("  try:"):
                self._ready.set()
        self._ready.set()

    def family(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def kill(self) -> None:
        """kill -9 of every process at once."""
        family = self.family() if self.process.poll() is None else []
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family, timeout=20)
        self.process.wait(20)
        self._close()

    def stop(self) -> int:
        """SIGTERM to the parent. Returns its exit code; asserts that nothing is left."""
        family = self.family()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(60)
            _, left = psutil.wait_procs(family, timeout=10)
        finally:
            self._close()
        assert not left, f"left behind: {left}"
        return code

    def _close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(20)
        self._reader.join(20)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def request(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, lower-case headers, body. `body`: JSON data, or bytes as they are."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        request.add_header("content-type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, {k.lower(): v for k, v in response.headers.items()}, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()

    def chat(self, text: str, session: str | None = None, **more: Any) -> tuple[str, str]:
        """One turn over the OpenAI route: (answer, session id)."""
        headers = {"x-session-id": session} if session else {}
        body = {"model": "auto", "messages": [{"role": "user", "content": text}], **more}
        status, answered, raw = self.request("POST", "/v1/chat/completions", body, headers)
        assert status == 200, raw
        return json.loads(raw)["choices"][0]["message"]["content"], answered["x-session-id"]

    def history(self, session: str) -> list[tuple[str, str]]:
        status, _, raw = self.request("GET", f"/sessions/{session}/history?limit=1000")
        assert status == 200, raw
        return [(turn["role"], turn["content"]) for turn in json.loads(raw)["turns"]]


@contextmanager
def served(*arguments: str, cwd: Path, **env: str) -> Iterator[Served]:
    server = Served(arguments, cwd, env)
    try:
        yield server
    finally:
        server.kill()
