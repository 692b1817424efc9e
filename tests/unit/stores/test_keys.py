"""Where keys come from, and what is said of those that are none."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic import ValidationError as Invalid

from rayflow.config.sections.encryption import EncryptionConfig
from rayflow.errors import ConfigurationError
from rayflow.stores.keys import keys, payloads
from rayflow.stores.payloads import PLAIN

KEY, OLD = bytes(range(32)), bytes(range(32, 64))


def test_keys_are_base64_or_hexadecimal_the_present_one_first() -> None:
    config = EncryptionConfig(key=SecretStr(f" {b64encode(KEY).decode()}\n"), previous=[SecretStr(OLD.hex())])
    assert keys(config) == [KEY, OLD]


def test_a_key_file_has_a_key_in_each_line(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{b64encode(KEY).decode()}\n\n{OLD.hex()}\n")
    assert keys(EncryptionConfig(key_file=str(file))) == [KEY, OLD]


@pytest.mark.parametrize("text", ["", "hunter2", b64encode(KEY[:31]).decode(), KEY.hex()[:-2], "é" * 32])
def test_what_is_no_key_is_refused_without_being_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"session\.encryption\.key: expected 32 random bytes") as caught:
        keys(EncryptionConfig(key=SecretStr(text)))
    assert not text or text not in caught.value.message
    file = tmp_path / "key"
    file.write_text(f"{KEY.hex()}\n{text or 'x'}\n")
    with pytest.raises(ConfigurationError, match=r"key:2: expected 32"):
        keys(EncryptionConfig(key_file=str(file)))


def test_a_key_file_that_is_empty_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name, problem in (("none", "cannot read"), ("empty", "is empty")):
        with pytest.raises(ConfigurationError, match=problem):
            keys(EncryptionConfig(key_file=str(tmp_path / name)))


def test_keys_come_from_one_place() -> None:
    key = SecretStr(KEY.hex())
    for given in ({}, {"key": key, "key_file": "x"}, {"key_file": "x", "previous": [key]}):
        with pytest.raises(Invalid, match="expected"):
            EncryptionConfig.model_validate(given)


def test_without_a_section_nothing_is_encrypted() -> None:
    assert payloads(None) is PLAIN
