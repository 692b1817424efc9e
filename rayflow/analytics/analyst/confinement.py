"""What a process gives up before it runs SQL that came from outside: files, network, privileges, memory and time.

The kernel holds these limits, whatever happens in DuckDB. Landlock (Linux 5.13 and later) needs no privileges, binds
root as well, and is inherited by threads but not given to those that run already: a process shuts itself in while it
has one thread. Where a container forbids network namespaces, Landlock still forbids TCP.

Memory is limited as data (`RLIMIT_DATA`: what may be written, reserved addresses not counted), which follows the
resident size closely; a limit on addresses alone would be either too tight or none.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

LANDLOCK_NEEDED = 3
"""The version from which on truncating is forbidden, too (Linux 6.2)."""
TCP_VERSION = 4

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH = 1
_READ = 1 << 2 | 1 << 3  # files, folders
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""Version -> how many rights on files it knows, `1 << 0` first."""
_TCP = 1 << 0 | 1 << 1  # bind, connect
_SCOPES = 1 << 0 | 1 << 1  # abstract Unix sockets, signals
_PARENT_DEATH_SIGNAL, _DUMPABLE, _NO_NEW_PRIVILEGES = 1, 4, 38
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_CAPABILITIES_VERSION = 0x20080522
_ADDRESSES_BYTES = 1 << 30
"""Of address space on top of the memory: reserved by allocators and stacks, most of it never touched."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Offers:
    """What this kernel lets a process give up. `landlock`: version, 0 without. `network`: whether an own, empty network
    namespace may be made."""

    landlock: int
    network: bool

    @property
    def enough(self) -> bool:
        """Whether files are safe, and the network out of reach."""
        return self.landlock >= LANDLOCK_NEEDED and (self.network or self.landlock >= TCP_VERSION)


def find_offers() -> Offers:
    """Tries it in a process of its own, and changes nothing in this one."""
    command = [
        sys.executable,
        "-P",
        "-c",
        f"from {__name__} import leave_network; raise SystemExit(not leave_network())",
    ]
    done = subprocess.run(command, env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}, check=False)
    return Offers(landlock_version(), done.returncode == 0)


def landlock_version() -> int:
    """0 where the kernel has none, or has it switched off."""
    if platform.system() != "Linux":
        return 0
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))))


def leave_network() -> bool:
    """Go to a network namespace without interfaces. Only with one thread. Returns whether that was permitted."""
    if platform.system() != "Linux":
        return False
    return any(int(_libc.unshare(flags)) == 0 for flags in (_NEW_NETWORK, _NEW_USER | _NEW_NETWORK))


def end_with_parent(parent: int) -> None:
    """This process is killed when its parent dies."""
    if platform.system() == "Linux":
        _libc.prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def shut_in(readable: Sequence[Path]) -> None:
    """Keep nothing but reading beneath these folders: no other file, no TCP, no signals to others, no privileges.
    Raises `OSError` where the kernel refuses."""
    _check(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    version = landlock_version()
    rights = (1 << _FILE_RIGHTS[min(version, max(_FILE_RIGHTS))]) - 1 if version else 0
    attributes = struct.pack("QQQ", rights, _TCP, _SCOPES)
    size = 24 if version >= 6 else 16 if version >= TCP_VERSION else 8
    ruleset = _check(_libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0)))
    try:
        for folder in readable:
            place = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = struct.pack("=Qi", _READ, place)
                _check(_libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, ctypes.c_uint32(0)))
            finally:
                os.close(place)
        _check(_libc.syscall(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)))
    finally:
        os.close(ruleset)


def drop_privileges() -> None:
    """Keep no capability, as whoever this is. Raises `OSError`."""
    header = struct.pack("Ii", _CAPABILITIES_VERSION, 0)
    _check(_libc.capset(header, struct.pack("6I", *[0] * 6)))
    _check(_libc.prctl(_DUMPABLE, 0, 0, 0, 0))  # nobody else may look into it either


def limit_time(seconds: float) -> None:
    """The kernel ends this process after so long, and when it has used about as much CPU."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    used = ceil(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    _limit(resource.RLIMIT_CPU, used + ceil(seconds) + 1)


def limit_memory(size_bytes: int) -> None:
    """Of this process, with what it has already. What is mapped from files (libraries) counts, too."""
    _limit(resource.RLIMIT_DATA, max(size_bytes - _memory_kib("RssFile") * 1024, 1))
    _limit(resource.RLIMIT_AS, _memory_kib("VmSize") * 1024 + size_bytes + _ADDRESSES_BYTES)


def threads() -> int:
    """Of this process."""
    return len(list(Path("/proc/self/task").iterdir()))


def memory_in_use() -> int:
    """Bytes that are resident."""
    return _memory_kib("VmRSS") * 1024


def limit_files() -> None:
    """No file may grow, and no core be dumped."""
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _memory_kib(fact: str) -> int:
    """A line of /proc/self/status, 0 where there is none."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(fact + ":"):
            return int(line.split()[1])
    return 0


def _check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
