"""A configuration on its way to an actor.

It is checked and complete by then, so an actor needs neither the file nor what reads files; this module imports only
the schema, which keeps every actor a few megabytes smaller.
"""

from __future__ import annotations

import json

from pydantic import SecretStr

from rayflow.config.schema import WorkflowConfig


def dump(config: WorkflowConfig) -> bytes:
    """The whole configuration as JSON, **secrets included**: for the authenticated way to an actor, nothing else."""
    return json.dumps(config.model_dump(), default=SecretStr.get_secret_value).encode()


def restore(data: bytes) -> WorkflowConfig:
    """The configuration that `dump` was given. Raises pydantic's `ValidationError` for anything else."""
    return WorkflowConfig.model_validate(json.loads(data))
