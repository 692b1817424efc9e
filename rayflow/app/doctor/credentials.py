"""Checks of keys and tokens. A finding says whether there is one, never what it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rayflow.app.doctor.finding import Finding


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


def ray_authentication(env: Mapping[str, str]) -> Finding:
    mode = env.get("RAY_AUTH_MODE", "")
    if mode and mode.lower() != "token":
        fix = "unset RAY_AUTH_MODE: without a token, whoever reaches Ray's ports can run code as you"
        return Finding("ray authentication", "warn", f"RAY_AUTH_MODE={mode}", fix)
    return Finding("ray authentication", "ok", "by token" if mode else "by token, Ray's default for a local cluster")


def openai_key(env: Mapping[str, str]) -> Finding:
    found = "yes" if env.get("OPENAI_API_KEY") else "no; the offline model needs none"
    return Finding("OPENAI_API_KEY", "ok", found)
