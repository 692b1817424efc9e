"""The state folder and the run folder of a system.

The state folder (`.rayflow`) holds what must survive: sessions and events. It belongs to one system at a time, kept
by a file lock that the kernel drops when its holder dies, however it dies. The run folder holds what must not
survive: sockets and the cluster secret. It lies under the temporary folder, because unix socket paths are short, and
only its owner can enter.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

from rayflow.cluster.fabric.sockets import private_folder
from rayflow.errors import StorageError, Unavailable

DYING_S = 15.0
GLANCE_S = 0.5


@dataclass(frozen=True)
class RunFile:
    """`run.json` in the state folder: who serves from it. Read by status, stop, chat and batch."""

    pid: int
    run_dir: str
    workflow: str
    url: str = ""
    """HTTP address; empty when this system serves no HTTP (a batch job's own)."""
    in_process: bool = False


def run_folder(state: Path) -> Path:
    digest = blake2b(str(state.resolve()).encode(), digest_size=4).hexdigest()
    return Path(tempfile.gettempdir()) / f"rayflow-{os.getuid()}" / digest


@dataclass(frozen=True)
class Owned:
    """`run_dir`: the fresh run folder. `lock`: descriptor of the lock; a process that inherits it shares the
    ownership."""

    run_dir: Path
    lock: int


@contextmanager
def owned(state: Path) -> Iterator[Owned]:
    """Own the state folder for as long as the context lasts, with a fresh run folder and a new secret in it.

    Raises `Unavailable` when another system owns it, `StorageError` when it cannot be written.
    """
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = (state / "lock").open("w")
    except OSError as error:
        message = f"cannot use the state folder {state}: {error.strerror}; choose another one with --state"
        raise StorageError(message, path=str(state)) from error
    with lock:
        _take(lock.fileno(), state)
        run_dir = run_folder(state)
        shutil.rmtree(run_dir, ignore_errors=True)
        private_folder(run_dir.parent)
        private_folder(run_dir)
        secret = run_dir / "secret"
        secret.touch(mode=0o600)
        secret.write_bytes(secrets.token_bytes(32))
        try:
            yield Owned(run_dir, lock.fileno())
        finally:
            (state / "run.json").unlink(missing_ok=True)
            shutil.rmtree(run_dir, ignore_errors=True)


def _take(lock: int, state: Path) -> None:
    """Take the lock. A system whose parent was killed drains for a moment; it is waited for, and so is a command that
    just looks whether anybody holds the lock."""
    began = time.monotonic()
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            run = read_run_file(state)
            dying = run is not None and not _alive(run.pid)
            if time.monotonic() - began > (DYING_S if dying else GLANCE_S):
                raise Unavailable(
                    f"the state folder {state} is in use by {_name(run)}: stop that one (rayflow stop)"
                    " or choose another folder with --state",
                    path=str(state),
                ) from None
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_run_file(state: Path, run: RunFile) -> None:
    temporary = state / "run.json.new"
    temporary.write_text(json.dumps(asdict(run)))
    temporary.replace(state / "run.json")


def read_run_file(state: Path) -> RunFile | None:
    """The system that owns this state folder now, or None. A file left by a killed system does not count."""
    try:
        run = RunFile(**json.loads((state / "run.json").read_text()))
        with (state / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return run
    except (OSError, ValueError, TypeError):
        return None
    return None


def _name(run: RunFile | None) -> str:
    if run is None:
        return "another process"
    return f"process {run.pid}" + (f" ({run.url})" if run.url else "")
