"""Checks of the port to serve on, and of what Ray opens to the network."""

from __future__ import annotations

import socket
from pathlib import Path

from rayflow.app.doctor.finding import Finding
from rayflow.app.doctor.processes import PROC, open_ports, ray_daemons
from rayflow.app.state import read_run_file

SHOWN_PORTS = 8


def port(state: Path, number: int) -> Finding:
    run = read_run_file(state)
    if run is not None and run.url.endswith(f":{number}"):
        return Finding("port", "ok", f"{number} is ours: {run.url}")
    with socket.socket() as probe:
        # A port whose last connections are still closing can be served on.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError as error:
            return Finding("port", "warn", f"{number}: {error.strerror}", "serve on another one: --port")
    return Finding("port", "ok", f"{number} is free")


def ray_ports(proc: Path = PROC) -> Finding:
    """Ray's daemons and workers listen on all interfaces, whatever address they are told to use."""
    daemons = ray_daemons(proc)
    if not daemons:
        return Finding("ray ports", "ok", "no Ray runs here")
    ports = sorted({number for daemon in daemons for number in open_ports(daemon, proc)})
    if not ports:
        return Finding("ray ports", "ok", "Ray runs here and listens on loopback only")
    shown = ", ".join(map(str, ports[:SHOWN_PORTS])) + (", ..." if len(ports) > SHOWN_PORTS else "")
    fix = "on a shared network close them with a firewall: whoever reaches Ray and has its token can run code"
    return Finding("ray ports", "warn", f"Ray listens on all interfaces at {len(ports)} ports: {shown}", fix)
