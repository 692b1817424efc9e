"""The body of POST /chat, the native route."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rayflow.api.completion_request import Metadata
from rayflow.api.problems import UnsupportedParameter
from rayflow.chat import ModelParams


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
    multitask_strategy: str | None = None
    on_disconnect: str | None = None
    cache: bool | None = None

    # Known parameters that nothing in this version implements: refused.
    profile_id: Any = None
    workflow: Any = None
    workflow_template: Any = None
    workflow_config: Any = None
    provider: Any = None
    document_ids: Any = None
    enable_memory: Any = None
    memory_window: Any = None
    allowed_tools: Any = None
    max_tool_calls: Any = None

    def check(self) -> None:
        """Raises `UnsupportedParameter`."""
        for name in _NOT_YET:
            if getattr(self, name) is not None:
                raise UnsupportedParameter(f"{name} is not supported by this version; remove it", param=name)

    def params(self) -> ModelParams:
        """The options for the model."""
        return ModelParams(temperature=self.temperature, max_tokens=self.max_tokens)


_NOT_YET = ChatRequest.__struct_fields__[ChatRequest.__struct_fields__.index("profile_id") :]
