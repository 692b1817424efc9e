"""Logs of the processes: one file each in the state folder, or stderr; lines of text, or of JSON."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rayflow.config.schema import MonitoringConfig, WorkflowConfig
from rayflow.context import context, subject
from rayflow.messages import AgentCall, RunRequest
from rayflow.policies.redaction import Redactor, redactor

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class JsonFormatter(logging.Formatter):
    """One object a line. What it is about is looked up when a line is written, so that a run that nobody complains of
    costs nothing. What looks secret is replaced. `about`: what stands in every line."""

    def __init__(self, about: dict[str, str], redactor: Redactor) -> None:
        super().__init__()
        self._about = about
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._redactor.redact(record.getMessage()).text,
            **self._about,
            **_work(),
        }
        if record.exc_info:
            line["exception"] = self._redactor.redact(self.formatException(record.exc_info)).text
        return json.dumps(line, ensure_ascii=False, default=str)


def _work() -> dict[str, Any]:
    """The run that this task works on, and its trace."""
    found: dict[str, Any] = {}
    match subject.get():
        case RunRequest() as run:
            found = {"run_id": run.run_id, "session_id": run.session_id}
            found["input_size"] = sum(len(message.text) for message in run.messages)
        case AgentCall() as call:
            found = {"run_id": call.run_id, "agent": call.agent, "attempt": call.attempt}
            found["input_size"] = sum(len(message.text) for message in call.messages)
    if found:
        found["workflow_id"] = found["run_id"]
    ambient = context.get()
    if ambient is not None and ambient.traceparent:
        _, found["trace_id"], found["span_id"], *_ = ambient.traceparent.split("-")
    return found


def formatter(monitoring: MonitoringConfig, about: dict[str, str]) -> logging.Formatter:
    if monitoring.log_format == "json":
        return JsonFormatter(about, redactor(monitoring))
    return logging.Formatter(FORMAT)


def to_stderr(config: WorkflowConfig) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(config.monitoring, {"workflow_type": config.name, "process": "serve"}))
    logging.basicConfig(level=config.monitoring.log_level.upper(), handlers=[handler])


def to_file(config: WorkflowConfig, process: str) -> None:
    """Append to `logs/PROCESS.log` in the state folder."""
    folder = Path(config.storage.state) / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(folder / f"{process.replace('/', '-')}.log", delay=True)
    handler.setFormatter(formatter(config.monitoring, {"workflow_type": config.name, "process": process}))
    logger = logging.getLogger("rayflow")
    logger.handlers = [handler]
    logger.setLevel(config.monitoring.log_level.upper())
    logger.propagate = False
