from __future__ import annotations

import pytest
from pydantic import SecretStr

from rayflow.config.load import load_text
from rayflow.config.template import STARTER
from rayflow.config.transfer import dump, restore


@pytest.mark.parametrize("secret", ["sk-plain", 'quote " slash \\ ü \x00 🙂', ""])
def test_a_configuration_arrives_exactly_as_it_was_secrets_included(secret: str) -> None:
    overrides = ["models.0.api_key=${not replaced}", "models.0.headers={A: b}", "agents.0.seed=-9223372036854775808"]
    config = load_text(STARTER, overrides=overrides, env={"RAYFLOW_SECURITY__API_KEYS__0": secret})
    again = restore(dump(config))
    assert again == config
    assert again.security.api_keys == [SecretStr(secret)]
    assert dump(again) == dump(config)
