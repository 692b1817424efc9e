"""What a call of a model has used, where the model did not say.

A model reports its usage at the end of its answer. A call that ends before, because it was cancelled or failed, has
used something all the same, and somebody pays for it.
"""

from __future__ import annotations

from collections.abc import Iterable

from rayflow.chat import Message, Usage
from rayflow.errors import ModelError, ModelTimeout

CHARS_PER_TOKEN = 4


def tokens_of(chars: int) -> int:
    """About how many tokens a text of so many characters has."""
    return -(-chars // CHARS_PER_TOKEN)


def prompt_tokens(messages: Iterable[Message]) -> int:
    """About how many tokens these messages have."""
    return tokens_of(sum(len(message.text) for message in messages))


def cut_short(messages: Iterable[Message], pieces: int | None, reported: Usage, error: BaseException) -> Usage | None:
    """What a call had used when `error` ended it; None where nobody knows.

    `messages`: what the model was told. `pieces`: how many pieces of the answer had come, mostly one for each token;
    None where it was not streamed. `reported`: what the model has said of its usage by then.
    """
    if reported.total_tokens:
        return reported
    if not pieces and isinstance(error, ModelError) and not isinstance(error, ModelTimeout):
        return Usage(estimated=True)  # the endpoint refused or failed before it began
    if pieces is None:
        return None  # it may have been anywhere in its answer
    return Usage(prompt_tokens(messages), pieces, estimated=True)
