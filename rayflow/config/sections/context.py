"""What a model sees of the conversation (docs/context.md)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rayflow.config.sections.base import Mismatch, ReferenceProblems, Section

Source = Literal["conversation_history", "user_preferences", "session_data", "system_state"]


class ContextConfig(Section):
    """What a model sees of the conversation."""

    enrichment: bool = True
    """Add what is known of the session to a call."""
    sources: list[Source] = ["conversation_history", "user_preferences", "session_data"]
    """What is added. user_preferences and session_data come from the session's metadata; system_state is the date, the
    workflow and how far the conversation is."""
    window: Annotated[int, Field(ge=0, le=1000)] = 20
    """Earlier messages a call carries; 0 for nothing of the conversation."""
    max_context_tokens: Annotated[int, Field(ge=1, le=10_000_000)] = 4000
    """Most tokens of a call: new messages, which are never cut, and what is added to them."""
    max_age_s: Annotated[float, Field(gt=0)] | None = 86_400.0
    """Older messages are not added unless they are pinned."""
    tool_result_tokens: Annotated[int, Field(ge=1)] = 500
    """Results of earlier tool calls are cut to this where the window would not fit otherwise."""
    compression: bool = True
    """Put a summary in the place of what no longer fits."""
    compression_threshold: Annotated[int, Field(ge=0)] = 3000
    """Tokens of a conversation from which on it is summarised; 10000 suits models with a long context."""
    compression_ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Tokens of the summary for each one it stands for, at most. Never more than a quarter of max_context_tokens."""
    summary_model: str | None = None
    """An entry of `models` that writes the summary, after the answer is given. Without one, and until it has answered,
    the summary consists of the conversation's own sentences."""
    retrieval: Annotated[int, Field(ge=0, le=100)] = 0
    """Earlier messages from outside the window that are added because the new one asks about them, 5 for instance; 0
    for none. In sessions longer than the window this takes half a millisecond of the router's time for each turn."""
    search_turns: Annotated[int, Field(ge=0, le=100_000)] = 2000
    """The newest turns of a session that are searched and summarised."""
    tokenizer: Literal["estimate", "o200k_base", "cl100k_base"] = "estimate"
    """How tokens are counted. The two vocabularies are OpenAI's and need `rayflow[tokens]`; the estimate needs nothing
    (docs/context.md says how good it is)."""
    cached_sessions: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    """Sessions whose context a router keeps in memory, so that a turn reads the store once and not each time."""
    cache_ttl_s: Annotated[float, Field(gt=0)] = 300.0
    """What is known of a session for so long is read again."""

    @property
    def remembers(self) -> bool:
        """Whether a call carries anything of the conversation."""
        return self.enrichment and self.window > 0 and "conversation_history" in self.sources

    @model_validator(mode="after")
    def _searchable(self) -> ContextConfig:
        if 0 < self.search_turns < self.window:
            raise ReferenceProblems(
                [Mismatch("search_turns", f"0, or at least window ({self.window})", str(self.search_turns))]
            )
        return self
