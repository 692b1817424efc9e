"""Processes and the ports they listen on, read from /proc. Where there is no /proc, there seem to be none."""

from __future__ import annotations

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


def _processes(proc: Path) -> Iterator[Process]:
    for folder in sorted(proc.glob("[0-9]*"), key=lambda folder: int(folder.name)):
        try:
            name = (folder / "comm").read_text().strip()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            # It has ended meanwhile.
            continue
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
