"""Exit codes, the same for every command (docs/operations.md), and how an error is shown."""

from __future__ import annotations

import os
import sys
import traceback
from enum import IntEnum


class Exit(IntEnum):
    OK = 0
    BUG = 1
    USAGE = 2
    CONFIG = 3
    INPUT = 4
    PARTIAL = 5
    """Finished with failed rows, or a drain was cut short."""
    DEPENDENCY = 6
    STORAGE = 7


def report(error: Exception) -> int:
    """Say on stderr what went wrong, and return the exit code. RAYFLOW_DEBUG=1 adds the traceback."""
    from rayflow import errors

    if os.environ.get("RAYFLOW_DEBUG") == "1" or not isinstance(error, errors.WorkflowError):
        traceback.print_exception(error)
    if not isinstance(error, errors.WorkflowError):
        return Exit.BUG
    sys.stderr.write(f"error: {error.message}\n")
    match error:
        case errors.ConfigurationError():
            return Exit.CONFIG
        case errors.ValidationError() | errors.NotFound() | errors.Conflict():
            return Exit.INPUT
        case errors.StorageError():
            return Exit.STORAGE
        case errors.Unavailable() | errors.ModelError() | errors.FabricError():
            return Exit.DEPENDENCY
        case _:
            return Exit.BUG
