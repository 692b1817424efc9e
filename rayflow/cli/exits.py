"""How an error is shown on the command line, and the exit code it ends with."""

from __future__ import annotations

import os
import sys
import traceback

from rayflow.errors import Exit


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
