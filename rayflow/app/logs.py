"""Logs of the processes: one file each in the state folder, or stderr."""

from __future__ import annotations

import logging
from pathlib import Path

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def to_stderr(level: str) -> None:
    logging.basicConfig(level=level.upper(), format=FORMAT)


def to_file(state: Path, process: str, level: str) -> None:
    """Append to `logs/PROCESS.log` in the state folder."""
    folder = state / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(folder / f"{process.replace('/', '-')}.log", delay=True)
    handler.setFormatter(logging.Formatter(FORMAT))
    logger = logging.getLogger("rayflow")
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
