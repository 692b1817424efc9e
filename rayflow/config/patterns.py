"""Patterns that users write: they run on RE2, whose time grows with the text and never with its square.

RE2 refuses what it could not do so (look-around, back-references). It is loaded with the first pattern.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re2

MAX_BYTES = 1024
"""Longest pattern."""
MAX_MEM_BYTES = 8 << 20
"""What one pattern may take of memory."""


def problem(pattern: str) -> str:
    """Why a pattern cannot be used; "" where it can."""
    import re2

    if len(pattern.encode(errors="replace")) > MAX_BYTES:
        return f"it is longer than {MAX_BYTES} bytes"
    try:
        if compiled(pattern).search(b"") is not None:
            return "it matches where there is nothing"
    except re2.error as error:
        said = error.args[0] if error.args else b""
        return said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    return ""


def compiled(pattern: str) -> re2._Regexp:
    """For bytes: in text the binding would count characters at every match. Raises `re2.error`."""
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_MEM_BYTES
    return re2.compile(pattern.encode(errors="replace"), options)
