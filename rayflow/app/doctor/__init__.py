"""What a machine offers to rayflow, and what stands in its way: the checks of `rayflow doctor`.

A check is a function that reads one thing and returns one `Finding`. What it reads is an argument with the real place
as its default, so that a test can show it any machine. No check changes anything, and none imports Ray.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from rayflow.app.doctor import credentials, folders, health, machine, network
from rayflow.app.doctor.finding import Finding
from rayflow.app.doctor.sandbox import sandbox
from rayflow.app.doctor.sessions import sessions


def examine(state: Path, port: int, env: Mapping[str, str] = os.environ) -> list[Finding]:
    """All checks, for a system with this state folder and HTTP port."""
    return [
        machine.python(),
        machine.ray(),
        machine.memory(),
        machine.shared_memory(),
        machine.open_files(),
        machine.clock(state),
        machine.bytecode(env),
        folders.state_folder(state),
        folders.free_disk(state),
        folders.temp_folder(state),
        folders.running(state),
        sessions(state),
        sandbox(),
        network.port(state, port),
        network.ray_ports(),
        health.ray_health_checks(),
        credentials.ray_token(env),
        credentials.ray_authentication(env),
        credentials.openai_key(env),
    ]
