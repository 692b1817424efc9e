"""`kill -9` of everything, or of one part, loses nothing that was acknowledged."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
from support.served import Served, served


def test_the_history_is_still_there_after_killing_the_whole_system(folder: Path) -> None:
    with served(cwd=folder) as server:
        _, session = server.chat("My order number is 48213.")
        server.chat("It arrived broken.", session)
        before = server.history(session)
        server.kill()
    with served("--in-process", cwd=folder) as again:
        assert again.history(session) == before
        answer, _ = again.chat("What was my order number?", session)
        assert "48213" in answer
        assert again.stop() == 0


def test_nothing_outlives_a_killed_parent(folder: Path) -> None:
    with served(cwd=folder) as server:
        family = server.family()
        os.kill(server.process.pid, signal.SIGKILL)
        _, left = psutil.wait_procs(family, timeout=20)
        assert not left
        server.process.wait(10)


def test_a_killed_agent_comes_back_and_a_killed_ingress_is_replaced(folder: Path) -> None:
    with served(cwd=folder) as server:
        for title in ("ray::Agent", "rayflow.api.ingress"):
            victim = next(p for p in server.family() if title in " ".join(p.cmdline()))
            victim.kill()
            assert _answers_again(server)
        assert server.stop() == 0


def _answers_again(server: Served) -> bool:
    until = time.monotonic() + 15
    while time.monotonic() < until:
        try:
            if all(server.chat(text)[0] for text in ("refund please", "my password", "hello there")):
                return True
        except (AssertionError, OSError):
            time.sleep(0.1)
    return False


def test_a_frozen_agent_is_taken_out_of_rotation_and_replaced(folder: Path) -> None:
    with served(cwd=folder) as server:
        victim = next(p for p in server.family() if "ray::Agent" in " ".join(p.cmdline()))
        victim.suspend()
        try:
            assert _answers_again(server)
            _, alive = psutil.wait_procs([victim], timeout=15)
            assert not alive, "it must not wake up beside its successor"
        finally:
            if victim.is_running():
                victim.resume()
        assert server.stop() == 0
