"""Checks of the state folder, the temporary folder, and what an earlier system left in them."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

from rayflow.app.doctor.finding import Finding, size
from rayflow.app.doctor.processes import PROC, ray_daemons
from rayflow.app.state import read_run_file, run_folder

DISK_NEEDED_BYTES, DISK_WANTED_BYTES = 100 << 20, 2 << 30
REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs"})
VOLATILE = frozenset({"tmpfs", "ramfs"})

SOCKET_PATH_BYTES = 107 if os.uname().sysname == "Linux" else 103
LONGEST_SOCKET = "r/session_2026-01-31_23-59-59_999999_4194304/sockets/plasma_store"
"""In the run folder; Ray's own names are the longest."""


def state_folder(state: Path, mounts: Path = Path("/proc/self/mountinfo")) -> Finding:
    existing = _existing(state)
    if not os.access(existing, os.W_OK | os.X_OK) or not existing.is_dir():
        return Finding("state folder", "fail", f"cannot write to {existing}", "choose another one with --state")
    kind = filesystem(existing, mounts)
    found = f"{state.absolute()}" + (f" ({kind})" if kind else "") + ("" if state.exists() else ", not made yet")
    if kind in REMOTE:
        fix = "use a folder on a local disk: SQLite's log and file locks are not safe on a network filesystem"
        return Finding("state folder", "warn", found, fix)
    if kind in VOLATILE:
        return Finding("state folder", "warn", found, "use a folder on a disk: this one is empty after a reboot")
    return Finding("state folder", "ok", found)


def filesystem(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Type of the filesystem that a folder is on; empty where the system does not say."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    here = folder.resolve()
    best, kind = -1, ""
    for line in lines:
        left, _, right = line.partition(" - ")
        # Spaces in a mount point are written as \040.
        point = Path(left.split()[4].replace("\\040", " "))
        # Of two mounts at one place, the later one is on top.
        if here.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), right.split()[0]
    return kind


def free_disk(state: Path) -> Finding:
    """Of the state folder and of the temporary folder, whichever has less."""
    places = [_existing(state), Path(tempfile.gettempdir())]
    free, place = min((shutil.disk_usage(place).free, place) for place in places)
    found = f"{size(free)} free at {place}"
    if free >= DISK_WANTED_BYTES:
        return Finding("disk", "ok", found)
    fix = "free some space: on a full disk turns are refused (storage-full) and events are dropped"
    return Finding("disk", "warn" if free >= DISK_NEEDED_BYTES else "fail", found, fix)


def temp_folder(state: Path) -> Finding:
    """Unix sockets have short paths, and some filesystems hold none."""
    run, temp = run_folder(state), Path(tempfile.gettempdir())
    longest = len(os.fsencode(run / LONGEST_SOCKET))
    if longest > SOCKET_PATH_BYTES:
        found = f"{temp} is {longest - SOCKET_PATH_BYTES} bytes too long for the paths of sockets"
        return Finding("temporary folder", "fail", found, "set TMPDIR to a folder with a short path")
    try:
        if run.parent.exists() and run.parent.stat().st_uid != os.getuid():
            fix = f"remove {run.parent} or set TMPDIR to a folder of your own"
            return Finding("temporary folder", "fail", f"{run.parent} belongs to another user", fix)
        with tempfile.TemporaryDirectory(dir=temp) as folder, socket.socket(socket.AF_UNIX) as probe:
            probe.bind(f"{folder}/s")
    except OSError as error:
        found = f"no sockets in {temp}: {error.strerror or error}"
        return Finding("temporary folder", "fail", found, "set TMPDIR to a local folder of your own")
    return Finding("temporary folder", "ok", str(temp))


def running(state: Path, proc: Path = PROC) -> Finding:
    """Who serves from the state folder, and what a killed one left behind."""
    run = read_run_file(state)
    if run is not None:
        where = f" at {run.url}" if run.url else ""
        return Finding("system", "ok", f"{run.workflow} runs as process {run.pid}{where}")
    folder = str(run_folder(state))
    orphans = [str(daemon.pid) for daemon in ray_daemons(proc) if folder in daemon.command]
    if orphans:
        found = f"processes of a system that ended are still there: {', '.join(orphans)}"
        return Finding("system", "warn", found, f"end them: kill {' '.join(orphans)}")
    if (state / "run.json").exists():
        return Finding("system", "ok", "none runs; the last one was killed, and the next start clears up after it")
    return Finding("system", "ok", "none runs on this state folder")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    absolute = folder.absolute()
    return next(place for place in (absolute, *absolute.parents) if place.exists())
