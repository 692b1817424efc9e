"""What all messages have in common, and the two replies that any handler may give."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from rayflow.errors import ErrorInfo


class Payload(msgspec.Struct, frozen=True, omit_defaults=True, tag=True):
    """Base of all messages; the tag on the wire is the class name.

    `survives_caller`: whether a handler goes on when the connection of whoever asked breaks. Not so by default: an
    answer that nobody can receive is not worth a model's tokens.
    """

    survives_caller: ClassVar[bool] = False


class Ack(Payload, frozen=True, tag=True):
    """Done; nothing to say."""


class Failure(Payload, frozen=True, tag=True):
    """The reply of a handler that raised."""

    error: ErrorInfo
