"""How loaded the machine is: shares of its processors and of its memory, or of what a container may use of them."""

from __future__ import annotations

from pathlib import Path

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")


class Machine:
    """Linux; elsewhere nothing is known. `proc` and `cgroup`: where the kernel tells."""

    def __init__(self, proc: Path = PROC, cgroup: Path = CGROUP) -> None:
        self._proc = proc
        self._cgroup = cgroup
        self._cpu: tuple[float, float] | None = None

    def load(self) -> dict[str, float]:
        """`cpu_usage` and `memory_usage`, as far as they are known."""
        measured = {"cpu_usage": self.cpu_usage(), "memory_usage": self.memory_usage()}
        return {metric: share for metric, share in measured.items() if share is not None}

    def memory_usage(self) -> float | None:
        """0 to 1: what is in use and cannot be given back at once. The tighter one of the machine and the container."""
        shares = [share for share in (self._machine_memory(), self._container_memory()) if share is not None]
        return max(shares, default=None)

    def cpu_usage(self) -> float | None:
        """0 to 1: mean over all processors since the last call; None at the first."""
        before, self._cpu = self._cpu, self._cpu_times()
        if before is None or self._cpu is None:
            return None
        total, busy = (now - then for now, then in zip(self._cpu, before, strict=True))
        return min(1.0, max(0.0, busy / total)) if total > 0 else None

    def _machine_memory(self) -> float | None:
        try:
            lines = (self._proc / "meminfo").read_text("ascii").splitlines()
            sizes = {key: int(rest.split()[0]) for key, _, rest in (line.partition(":") for line in lines)}
            return 1 - sizes["MemAvailable"] / sizes["MemTotal"]
        except (OSError, ValueError, LookupError, ZeroDivisionError):
            return None

    def _container_memory(self) -> float | None:
        try:
            limit = int((self._cgroup / "memory.max").read_text("ascii"))  # "max": there is none
            used = int((self._cgroup / "memory.current").read_text("ascii"))
            stat = dict(line.split() for line in (self._cgroup / "memory.stat").read_text("ascii").splitlines())
            return max(0, used - int(stat["inactive_file"])) / limit
        except (OSError, ValueError, LookupError, ZeroDivisionError):
            return None

    def _cpu_times(self) -> tuple[float, float] | None:
        """Ticks of all processors, and those of them that were not idle."""
        try:
            with (self._proc / "stat").open("rb") as file:
                ticks = [int(number) for number in file.readline().split()[1:9]]
            return float(sum(ticks)), float(sum(ticks) - ticks[3] - ticks[4])
        except (OSError, ValueError, LookupError):
            return None
