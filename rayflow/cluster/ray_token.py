"""The token of a Ray cluster that rayflow starts itself. Ray reads these variables when it is imported, so this
module must run first and must not import it."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path


def use_own_token(run_dir: Path) -> None:
    """A token for this cluster alone, readable by this user alone; the one Ray writes by itself has mode 0644.

    A mode or token that the user set is left as it is, and so is a process that has imported Ray already.
    """
    if "ray" in sys.modules or any(name.startswith("RAY_AUTH_") for name in os.environ):
        return
    token = run_dir / "ray_token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
