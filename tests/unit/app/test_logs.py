"""A line of a process's own log says what it is about, as far as that is known."""

from __future__ import annotations

import contextvars
import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rayflow.app.logs import formatter, to_file
from rayflow.chat import Message
from rayflow.config.schema import WorkflowConfig
from rayflow.context import Context, context, subject
from rayflow.messages import AgentCall, RunRequest

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def workflow(**monitoring: Any) -> WorkflowConfig:
    return WorkflowConfig.model_validate({"name": "team", "agents": [{"name": "a"}], "monitoring": monitoring})


def line(message: str, *args: object, about: object = None, trace: str = "", **monitoring: Any) -> dict[str, Any]:
    """What is written of a record within the work on `about`."""
    given = formatter(workflow(log_format="json", **monitoring).monitoring, {"process": "router/0"})
    record = logging.LogRecord("rayflow.x", logging.ERROR, "x.py", 1, message, args, None)

    def write() -> str:
        subject.set(about)
        context.set(Context(trace))
        return given.format(record)

    text = contextvars.copy_context().run(write)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_line_says_when_where_and_what() -> None:
    found = line("the %s broke", "disk")
    assert datetime.fromisoformat(found.pop("timestamp")).tzinfo == UTC
    assert found == {"level": "error", "logger": "rayflow.x", "message": "the disk broke", "process": "router/0"}


def test_within_a_run_it_names_the_run_its_session_and_its_trace() -> None:
    run = RunRequest("run_1", "sess_1", [Message("user", "hello"), Message("user", "you")], tenant="t")
    found = line("no", about=run, trace=TRACE)
    assert (found["run_id"], found["workflow_id"], found["session_id"]) == ("run_1", "run_1", "sess_1")
    assert found["input_size"] == 8
    assert (found["trace_id"], found["span_id"]) == tuple(TRACE.split("-")[1:3])


def test_a_replica_names_the_run_and_the_agent() -> None:
    found = line("no", about=AgentCall("run_1", "billing", [Message("user", "hello")], attempt=2))
    assert (found["run_id"], found["agent"], found["attempt"], found["input_size"]) == ("run_1", "billing", 2, 5)


def test_what_looks_secret_is_replaced() -> None:
    found = line("login of %s with password: hunter22, ticket T-123", "eve@example.org", redact_patterns=["T-[0-9]+"])
    assert found["message"] == "login of [email] with password: [password], ticket [redacted]"


def test_an_exception_is_one_line_and_without_secrets() -> None:
    try:
        raise ValueError("Authorization: Bearer abcdefghijklmnop1234567890")
    except ValueError as error:
        record = logging.LogRecord("rayflow.x", logging.ERROR, "x.py", 1, "no", (), (ValueError, error, None))
    text = formatter(workflow(log_format="json").monitoring, {}).format(record)
    assert "[bearer_token]" in json.loads(text)["exception"]
    assert "abcdefgh" not in text


@pytest.fixture
def own_log() -> Any:
    logger = logging.getLogger("rayflow")
    before = logger.handlers, logger.level, logger.propagate
    yield logger
    for handler in logger.handlers:
        handler.close()
    logger.handlers, logger.level, logger.propagate = before


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_each_process_has_a_file(tmp_path: Path, log_format: str, own_log: logging.Logger) -> None:
    config = workflow(log_format=log_format).model_copy(
        update={"storage": workflow().storage.model_copy(update={"state": str(tmp_path)})}
    )
    to_file(config, "agent/a/0")
    own_log.getChild("x").warning("look")
    text = (tmp_path / "logs" / "agent-a-0.log").read_text()
    if log_format == "json":
        assert json.loads(text)["workflow_type"] == "team"
    else:
        assert text.endswith("WARNING rayflow.x: look\n")
