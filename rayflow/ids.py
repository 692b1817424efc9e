"""Identifiers: a readable prefix and at least 128 random bits, so that no id can be guessed from another.

Run ids start with the time (as UUIDv7 does), so they sort by age in logs and stores.
"""

from __future__ import annotations

import re
import secrets
import time

_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,254}")


def new_run_id() -> str:
    return f"run_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(16)}"


def new_session_id() -> str:
    return f"sess_{secrets.token_hex(16)}"


def new_memory_id() -> str:
    return f"mem_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(16)}"


def new_lock_token() -> str:
    return f"lock_{secrets.token_hex(16)}"


def is_safe_id(text: str) -> bool:
    """Whether a client's own id (session, user, key) may be used as it is: 1 to 255 characters, no blanks or
    controls."""
    return _SAFE_ID.fullmatch(text) is not None
