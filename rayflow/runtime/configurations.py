"""The configurations that children are built from: one, and during a rollout a second.

They are numbered, and each child's spec says by which one it was built. `target` is the one that all children have or
shall get. They are kept as JSON, which is how they travel to the children.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from rayflow.config.schema import WorkflowConfig
from rayflow.config.transfer import restore
from rayflow.errors import ConfigurationError


class Configurations:
    """Empty until a workflow is launched: then `target` is 0."""

    def __init__(self, json: Mapping[int, bytes] | None = None, target: int = 0) -> None:
        self.json = dict(json or {})
        self.parsed = {number: restore(config) for number, config in self.json.items()}
        self.target = target

    @property
    def current(self) -> WorkflowConfig:
        return self.parsed[self.target]

    @property
    def current_json(self) -> bytes:
        return self.json[self.target]

    def add(self, config: bytes) -> int:
        """The number of a new configuration. Raises `ConfigurationError` for what is none."""
        try:
            parsed = restore(config)
        except ValueError as error:
            raise ConfigurationError(f"this is no valid configuration: {error}") from error
        number = max(self.json, default=0) + 1
        self.json[number], self.parsed[number] = config, parsed
        return number

    def drop(self, number: int) -> None:
        del self.json[number], self.parsed[number]

    def settle(self, used: Collection[int]) -> None:
        """Forget what nobody was built from any more."""
        for number in self.json.keys() - {self.target, *used}:
            self.drop(number)
