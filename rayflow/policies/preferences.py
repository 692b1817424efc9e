"""The preferences of a user: language, expertise_level, communication_style, and whatever else is of use.

They are a small JSON object in one record of the user, and go to models with those of the session, which win.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rayflow.errors import ValidationError

PREFERENCES = "preferences"
"""The kind of the record, and its name."""
MAX_KEYS = 50
MAX_KEY_CHARS = 64
MAX_BYTES = 16_384
"""Of all of them, as JSON."""


def changed(preferences: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Merged key by key; null removes one. Raises `ValidationError` for too many or too long ones."""
    after = {key: value for key, value in {**preferences, **change}.items() if value is not None}
    if any(not key.strip() or len(key) > MAX_KEY_CHARS for key in after):
        raise ValidationError(f"keys of preferences have 1 to {MAX_KEY_CHARS} characters", param="preferences")
    if len(after) > MAX_KEYS or len(bytes_of(after)) > MAX_BYTES:
        raise ValidationError(f"preferences are {MAX_KEYS} keys and {MAX_BYTES} bytes at most", param="preferences")
    return after


def bytes_of(preferences: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(preferences)


def preferences_of(value: bytes) -> dict[str, Any]:
    """What `bytes_of` made. Raises `ValidationError` for anything else."""
    try:
        return msgspec.json.decode(value, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ValidationError(f"these are no preferences: {error}") from error
