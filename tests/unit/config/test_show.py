from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rayflow.config.load import from_dict, load_text
from rayflow.config.schema import WorkflowConfig
from rayflow.config.show import json_schema, show
from rayflow.config.template import STARTER

SECRET = """\
name: team
agents: [{name: a}]
models:
  - name: m
    api_key: sk-secret
    headers: {Authorization: Bearer sk-secret}
security: {api_keys: [sk-secret, sk-secret]}
"""


def test_secrets_are_hidden() -> None:
    text = show(load_text(SECRET, env={}))
    assert "sk-secret" not in text
    assert "api_key: '**********'" in text
    assert "Authorization: '**********'" in text
    assert text.count("**********") == 4


def test_defaults_are_shown_and_unset_keys_are_not() -> None:
    text = show(load_text("name: team\nagents: [{name: a}]\n", env={}))
    assert "routers: 1\n" in text
    assert "temperature" not in text


def test_what_is_shown_loads_again() -> None:
    config = load_text(STARTER, env={})
    assert load_text(show(config), env={}) == config


@given(st.text(), st.text(alphabet="${}A\n\t a#:'\"|>-0~"))
def test_any_text_is_shown_so_that_it_loads_again(one: str, other: str) -> None:
    config = from_dict(
        {"name": "t", "description": one, "version": other, "agents": [{"name": "a", "capabilities": [one]}]}
    )
    assert load_text(show(config), env={}) == config


def test_the_schema_refuses_unknown_keys_and_explains_the_known_ones() -> None:
    schema = json_schema()
    sections = [schema, *schema["$defs"].values()]
    assert all(section["additionalProperties"] is False for section in sections)
    for section in sections:
        for name, key in section["properties"].items():
            assert key.get("description") or "$ref" in key, name
    assert schema["required"] == ["name", "agents"]
    assert schema["$defs"]["ProcessingConfig"]["properties"]["routers"]["default"] == 1


def test_the_schema_knows_every_key_of_the_configuration() -> None:
    assert set(json_schema()["properties"]) == set(WorkflowConfig.model_fields)
