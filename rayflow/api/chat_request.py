"""The body of POST /chat, the native route (F110)."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rayflow.api.completion_request import Metadata
from rayflow.api.problems import UnsupportedParameter
from rayflow.chat import ModelParams

NOT_YET = (
    "profile_id", "workflow", "workflow_template", "workflow_config", "provider",
    "document_ids", "enable_memory", "memory_window", "allowed_tools", "max_tool_calls",
)  # fmt: skip
"""Parameters of F110 that nothing implements in this version."""


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One message to the workflow. `conversation_id` and `session_id` are two names of the same thing."""

    message: str
    conversation_id: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    agent: str | None = None
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    system_prompt_override: str | None = None
    metadata: Metadata | None = None

    def params(self) -> ModelParams:
        """The options for the model."""
        return ModelParams(temperature=self.temperature, max_tokens=self.max_tokens, user=self.user_id)


def refuse_not_yet(raw: Any) -> None:
    """Raises `UnsupportedParameter` for a parameter that is known but not implemented."""
    if not isinstance(raw, dict):
        return
    for name in NOT_YET:
        if raw.get(name) is not None:
            raise UnsupportedParameter(f"{name} is not supported by this version; remove it", param=name)
