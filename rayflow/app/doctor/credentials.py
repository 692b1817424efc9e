"""Checks of keys and tokens. A finding says whether there is one, never what it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rayflow.app.doctor.finding import Finding
from rayflow.app.doctor.processes import PROC, ray_daemons, ray_settings


def ray_token(env: Mapping[str, str], home: Path | None = None) -> Finding:
    """Ray writes its token readable for everybody on the machine."""
    if env.get("RAY_AUTH_TOKEN"):
        return Finding("ray token", "ok", "in RAY_AUTH_TOKEN")
    path = Path(env.get("RAY_AUTH_TOKEN_PATH") or (home or Path.home()) / ".ray" / "auth_token")
    try:
        mode = path.stat().st_mode & 0o777
    except OSError:
        return Finding("ray token", "ok", f"none at {path}; Ray makes one when it needs it")
    if mode & 0o077:
        return Finding("ray token", "warn", f"others may read {path} (mode {mode:04o})", f"chmod 600 {path}")
    return Finding("ray token", "ok", f"{path} (mode {mode:04o})")


def ray_authentication(env: Mapping[str, str], proc: Path = PROC) -> Finding:
    """Of the Ray that runs here, and of one that would be started from this shell. A cluster of `ray start` asks for no
    token unless there was one already."""
    check, danger = "ray authentication", "without a token, whoever reaches Ray's ports can run code as its user"
    open_to_all = [
        f"{daemon.name} (process {daemon.pid})"
        for daemon in ray_daemons(proc)
        if daemon.name in ("gcs_server", "raylet") and _asks_for_no_token(ray_settings(daemon, proc))
    ]
    if open_to_all:
        found = f"Ray runs here and asks for no token: {', '.join(open_to_all)}"
        return Finding(check, "warn", found, f"start it again with RAY_AUTH_MODE=token on every node: {danger}")
    mode = env.get("RAY_AUTH_MODE", "")
    if mode and mode.lower() != "token":
        return Finding(check, "warn", f"RAY_AUTH_MODE={mode}", f"unset RAY_AUTH_MODE: {danger}")
    return Finding(check, "ok", "by token" if mode else "by token, Ray's default for a local cluster")


def _asks_for_no_token(settings: Mapping[str, str] | None) -> bool:
    return settings is not None and settings.get("AUTH_MODE", "").lower() != "token"


def openai_key(env: Mapping[str, str]) -> Finding:
    found = "yes" if env.get("OPENAI_API_KEY") else "no; the offline model needs none"
    return Finding("OPENAI_API_KEY", "ok", found)
