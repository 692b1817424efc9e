"""Processes, the ports they listen on and what they were started with, read from /proc. Where there is no /proc, there
seem to be none."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_LISTEN = "0A"
_ANY_ADDRESS = frozenset({"0" * 8, "0" * 32})


@dataclass(frozen=True, slots=True)
class Process:
    """`name`: up to 15 characters, as the kernel keeps it."""

    pid: int
    name: str
    command: str


def ray_daemons(proc: Path = PROC) -> list[Process]:
    """Ray's daemons and workers on this machine, anybody's, by process id."""
    return [p for p in _processes(proc) if p.name in ("raylet", "gcs_server") or p.name.startswith("ray::")]


def open_ports(process: Process, proc: Path = PROC) -> list[int]:
    """TCP ports on which a process listens on all interfaces; none where its files cannot be read."""
    sockets = set(_sockets(proc / str(process.pid)))
    listening = {**_listening(proc / "net" / "tcp"), **_listening(proc / "net" / "tcp6")}
    return sorted({port for inode, port in listening.items() if inode in sockets})


def ray_settings(daemon: Process, proc: Path = PROC) -> dict[str, str] | None:
    """Ray's settings that a raylet or GCS was started with: its variables RAY_*, without that prefix, and over them
    what `ray start --system-config` or `ray.init(_system_config=)` said, which only the GCS is told.

    None where its environment cannot be read: it is another user's, or has ended.
    """
    try:
        environment = (proc / str(daemon.pid) / "environ").read_bytes().decode(errors="replace")
    except OSError:
        return None
    variables = (entry.partition("=") for entry in environment.split("\0"))
    settings = {name[4:]: value for name, _, value in variables if name.startswith("RAY_")}
    return settings | _system_config(daemon.command)


def _system_config(command: str) -> dict[str, str]:
    given = re.search(r" --config_list=(\S+)", command)
    try:
        config = json.loads(b64decode(given[1])) if given else {}
    except ValueError:
        return {}
    return {name: str(value) for name, value in config.items()} if isinstance(config, dict) else {}


def _processes(proc: Path) -> Iterator[Process]:
    for folder in sorted(proc.glob("[0-9]*"), key=lambda folder: int(folder.name)):
        try:
            name = (folder / "comm").read_text().strip()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            # It has ended meanwhile.
            continue
        # What has ended and waits for its parent to notice has no command line any more.
        if command:
            yield Process(int(folder.name), name, command)


def _sockets(folder: Path) -> Iterator[str]:
    """Inodes of the sockets that a process holds."""
    try:
        links = [str(entry.readlink()) for entry in (folder / "fd").iterdir()]
    except OSError:
        return
    for link in links:
        if link.startswith("socket:["):
            yield link[8:-1]


def _listening(table: Path) -> dict[str, int]:
    """Inode to port of the sockets in a table that listen on all interfaces."""
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return {}
    found: dict[str, int] = {}
    for row in rows:
        address, _, port = row[1].partition(":")
        if row[3] == _LISTEN and address in _ANY_ADDRESS:
            found[row[9]] = int(port, 16)
    return found
