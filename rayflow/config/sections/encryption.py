"""Encryption of what is stored."""

from __future__ import annotations

from pydantic import SecretStr, model_validator

from rayflow.config.sections.base import Mismatch, ReferenceProblems, Section


class EncryptionConfig(Section):
    """Keys of 32 random bytes, in base64 or hexadecimal (`openssl rand -base64 32`). Whoever loses them loses the
    sessions."""

    key: SecretStr | None = None
    """The present key, as ${NAME} from the environment."""
    previous: list[SecretStr] = []
    """Earlier keys, which only open; they can go when `rayflow sessions rekey` is done."""
    key_file: str | None = None
    """Instead of both: a file with the present key in its first line and earlier ones in those that follow; relative
    to the workflow file."""

    @model_validator(mode="after")
    def _one_source(self) -> EncryptionConfig:
        if (self.key is None) == (self.key_file is None):
            got = "neither" if self.key is None else "both"
            raise ReferenceProblems([Mismatch("key", "either key or key_file", got)])
        if self.key_file is not None and self.previous:
            raise ReferenceProblems([Mismatch("previous", "earlier keys in key_file, after the present one", "both")])
        return self
