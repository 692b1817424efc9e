"""What a classifier learns from: the agents' examples and descriptions, as texts with their owners."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

import msgspec

from rayflow.config.schema import AgentConfig, RoutingConfig
from rayflow.errors import ConfigurationError

VERSION = 1
"""Of features, training and artefact together: artefacts of another version are not used."""
MAX_FILE_BYTES = 64 << 20


class Material(msgspec.Struct, frozen=True):
    """`owners[i]`: positions in `labels` of those whom `texts[i]` belongs to; empty for a text that is nobody's."""

    labels: list[str]
    texts: list[str]
    owners: list[list[int]]
    independent: bool = False
    """Whether one text may belong to several: each label is then learnt on its own."""

    @property
    def key(self) -> str:
        """Names what can be learnt from it: the same content has the same key."""
        return blake2b(msgspec.msgpack.encode((VERSION, self)), digest_size=16).hexdigest()


def collect(routing: RoutingConfig, agents: Sequence[AgentConfig]) -> Material:
    """The workflow's own material. Raises `ConfigurationError` for a file that cannot be read, and where an agent has
    neither examples nor a description."""
    owners: dict[str, list[int]] = {}
    for i, agent in enumerate(agents):
        texts = [*agent.examples, *_lines(agent.examples_file, f"agents.{i}.examples_file")]
        own = list(_filled([*texts, agent.description]))
        if not own:
            raise ConfigurationError(
                f"agents.{i}: routing.strategy {routing.strategy} learns from examples, and agent {agent.name!r} has"
                " none: write some under examples or examples_file, or at least a description",
                key=f"agents.{i}.examples",
            )
        for text in own:
            owners.setdefault(text, []).append(i)
    nobodys = [*routing.out_of_scope_examples, *_lines(routing.out_of_scope_file, "routing.out_of_scope_file")]
    for text in _filled(nobodys):
        owners.setdefault(text, [])
    return Material([agent.name for agent in agents], list(owners), list(owners.values()), routing.multi_agent)


def _filled(texts: Iterable[str]) -> Iterable[str]:
    return dict.fromkeys(text.strip() for text in texts if text.strip())


def _lines(file: str | None, key: str) -> list[str]:
    if file is None:
        return []
    path = Path(file)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigurationError(f"{key}: {file} is larger than {MAX_FILE_BYTES >> 20} MiB; give fewer examples")
        return path.read_text("utf-8").splitlines()
    except OSError as error:
        raise ConfigurationError(f"{key}: {file} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{key}: {file} is not UTF-8 text (byte {error.start})") from error
