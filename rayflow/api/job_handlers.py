"""What the routes of both kinds of jobs share: OpenAI's batches and rayflow's own jobs are the same records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rayflow.app.client import SystemClient
from rayflow.app.jobs.files import FileStore
from rayflow.app.jobs.records import JobStore


@dataclass(frozen=True, slots=True)
class JobHandlers:
    """`wake`: called when there is something to do."""

    client: SystemClient
    wake: Callable[[], None]

    @property
    def store(self) -> JobStore:
        return JobStore(Path(self.client.config.storage.state))

    @property
    def files(self) -> FileStore:
        return FileStore(Path(self.client.config.storage.state))
