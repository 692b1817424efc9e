"""The address that is served on: kept for one system, and open to others only with keys."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from rayflow.config.schema import WorkflowConfig
from rayflow.errors import ConfigurationError, Unavailable


@dataclass(frozen=True)
class Address:
    host: str
    port: int

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def check_exposure(config: WorkflowConfig, host: str, insecure: bool) -> None:
    """Serving beyond this machine needs keys. Raises `ConfigurationError`."""
    if host in ("127.0.0.1", "::1", "localhost") or config.keyed or insecure:
        return
    raise ConfigurationError(
        f"serving on {host} without API keys would let anybody on the network use it: set security.api_keys in the"
        " workflow file (write keys as ${NAME}), or pass --insecure if that is what you want",
        key="security.api_keys",
    )


def reserve(host: str, port: int) -> socket.socket:
    """A socket that keeps the port ours. Raises `Unavailable` when somebody else has it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            # Without SO_REUSEPORT: fails where anything listens, even another rayflow that would share the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            port = probe.getsockname()[1]
        holder = socket.socket(family)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((host, port))
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {host} port {port}: {error.strerror or error}; choose another one with --port", port=port
        ) from error
    return holder
