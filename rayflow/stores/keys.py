"""The operator's keys, from where the configuration says they are."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

from rayflow.config.sections.encryption import EncryptionConfig
from rayflow.errors import ConfigurationError
from rayflow.stores.payloads import PLAIN, Payloads
from rayflow.stores.sealing import KEY_BYTES, Sealer


def payloads(encryption: EncryptionConfig | None) -> Payloads:
    """How a store with this configuration keeps its content. Raises `ConfigurationError` for keys that are none."""
    return PLAIN if encryption is None else Payloads(Sealer(keys(encryption)))


def keys(encryption: EncryptionConfig) -> list[bytes]:
    """The present key first. Raises `ConfigurationError`, which tells where a bad key stands and never what it is."""
    if encryption.key_file is not None:
        return _in_file(Path(encryption.key_file))
    assert encryption.key is not None, "the section checks that there is one of both"
    found = [_key(encryption.key.get_secret_value(), "session.encryption.key")]
    for i, secret in enumerate(encryption.previous):
        found.append(_key(secret.get_secret_value(), f"session.encryption.previous.{i}"))
    return found


def _in_file(path: Path) -> list[bytes]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"session.encryption.key_file: cannot read {path}: {error}", key="session.encryption.key_file"
        ) from error
    found = [_key(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise ConfigurationError(f"session.encryption.key_file: {path} is empty", key="session.encryption.key_file")
    return found


def _key(text: str, where: str) -> bytes:
    text = text.strip()
    try:
        key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigurationError(
            f"{where}: expected 32 random bytes in base64 or hexadecimal; `openssl rand -base64 32` makes some",
            key=where,
        )
    return key
