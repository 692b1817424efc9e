"""Checks of the interpreter, its packages, and the machine's resources."""

from __future__ import annotations

import platform
import re
import resource
import shutil
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rayflow.app.doctor.finding import Finding, size

OLDEST_PYTHON = (3, 11)
OLDEST_RAY, NEXT_RAY = (2, 60), (3,)
MEMORY_BYTES = 2 << 30
"""What a small system and its Ray take, with room for the rest."""
SHARED_MEMORY_BYTES = 192 << 20
"""Ray's object store, as rayflow sizes it, and room for the rest."""
FILES_NEEDED, FILES_WANTED = 1024, 8192
"""Each connection of a client takes one, each pair of processes another."""
CLOCK_SKEW_S = 60.0


def python(running: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    found = f"{'.'.join(map(str, running))} on {platform.system()} {platform.machine()}"
    if running < OLDEST_PYTHON:
        return Finding("python", "fail", found, "use Python 3.11 or newer")
    return Finding("python", "ok", found)


def ray(installed: str | None = None) -> Finding:
    try:
        found = installed or version("ray")
    except PackageNotFoundError:
        return Finding("ray", "fail", "not installed", "install what requirements.lock names")
    release = tuple(map(int, re.findall(r"\d+", found)[:2]))
    if not OLDEST_RAY <= release < NEXT_RAY:
        return Finding("ray", "fail", found, "install Ray 2.60 or newer, below 3")
    return Finding("ray", "ok", found)


def memory(meminfo: Path = Path("/proc/meminfo")) -> Finding:
    try:
        available = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    except OSError:
        available = None
    if available is None:
        return Finding("memory", "ok", "not known on this system")
    amount = int(available[1]) * 1024
    if amount < MEMORY_BYTES:
        fix = f"free some: a small system takes about {size(MEMORY_BYTES)}, and Ray ends processes when memory runs out"
        return Finding("memory", "warn", f"{size(amount)} available", fix)
    return Finding("memory", "ok", f"{size(amount)} available")


def shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    if not folder.is_dir():
        return Finding("shared memory", "ok", f"no {folder} on this system; Ray uses files")
    free = shutil.disk_usage(folder).free
    if free < SHARED_MEMORY_BYTES:
        fix = "make it larger (a container: --shm-size=1g); until then Ray keeps its objects in slower files"
        return Finding("shared memory", "warn", f"{size(free)} free in {folder}", fix)
    return Finding("shared memory", "ok", f"{size(free)} free in {folder}")


def open_files(limits: tuple[int, int] | None = None) -> Finding:
    """`limits`: soft and hard."""
    soft, hard = limits or resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = soft == resource.RLIM_INFINITY
    found = "no limit" if unlimited else f"limit {soft}"
    if unlimited or soft >= FILES_WANTED:
        return Finding("open files", "ok", found)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
    fix = f"raise it before serving: ulimit -n {wanted}" if wanted > soft else "let the administrator raise the limit"
    return Finding("open files", "warn" if soft >= FILES_NEEDED else "fail", found, fix)


def clock(state: Path, now: float | None = None) -> Finding:
    """Events are filed by date: a clock that is wrong files them wrongly."""
    now = time.time() if now is None else now
    marks = [Path(__file__), *state.glob("sessions/*"), *state.glob("events/date=*")]
    newest = max(mark.stat().st_mtime for mark in marks)
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if newest > now + CLOCK_SKEW_S:
        found = f"{shown}, but there are files of {(newest - now) / 3600:.1f} hours later"
        return Finding("clock", "warn", found, "set the clock; records made meanwhile carry the wrong time")
    return Finding("clock", "ok", shown)


def bytecode(env: Mapping[str, str]) -> Finding:
    if env.get("PYTHONDONTWRITEBYTECODE"):
        fix = "unset PYTHONDONTWRITEBYTECODE: every process compiles what it imports, and starting takes twice as long"
        return Finding("bytecode cache", "warn", "off", fix)
    return Finding("bytecode cache", "ok", "on")
