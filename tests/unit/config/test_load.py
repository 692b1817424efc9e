from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from rayflow.config.load import from_dict, load, load_or_example, load_text
from rayflow.config.schema import ContextConfig, WorkflowConfig
from rayflow.config.template import STARTER
from rayflow.errors import ConfigurationError, from_info

TEAM = """\
name: team
agents:
  - name: a
    temperature: 0.5
  - name: b
models:
  - name: gpt
    provider: openai
    api_key: sk-very-secret
processing:
  routers: 2
"""


def problems(source: str | bytes, overrides: Sequence[str] = (), **env: str) -> list[dict[str, object]]:
    with pytest.raises(ConfigurationError) as caught:
        load_text(source, "team.yaml", overrides, env)
    assert "secret" not in str(caught.value)
    found: list[dict[str, object]] = caught.value.details["problems"]
    return found


def changed(old: str, new: str, text: str = TEAM) -> str:
    assert old in text
    return text.replace(old, new, 1)


BROKEN = {
    "unknown key": (
        changed("temperature", "temprature"), 4, 5, "agents.0.temprature",
        "a known key", "'temprature'", "did you mean temperature?",
    ),
    "unknown key that is like no other": (
        changed("processing:", "context: {zzz: 2}\nprocessing:"), 10, 11, "context.zzz",
        f"one of the keys {', '.join(ContextConfig.model_fields)}", "'zzz'", "",
    ),
    "duplicate key": (
        changed("  - name: b", "  - name: b\n    role: x\n    role: y"), 7, 5, "agents.1.role",
        "each key once", "it again (first on line 6)", "remove one of them",
    ),
    "text for a number": (
        changed("routers: 2", "routers: two"), 11, 12, "processing.routers",
        "a whole number between 1 and 64", "'two'", "",
    ),
    "quoted number": (
        changed("0.5", "'0.5'"), 4, 18, "agents.0.temperature",
        "a number between 0 and 2 or null", "'0.5'", "remove the quotes",
    ),
    "fraction for a whole number": (
        changed("routers: 2", "routers: 2.5"), 11, 12, "processing.routers",
        "a whole number between 1 and 64", "2.5", "",
    ),
    "number for text": (
        changed("name: team", "name: team\nversion: 1"), 2, 10, "version",
        "text", "1", "put it in quotes",
    ),
    "boolean of YAML 1.1": (
        changed("routers: 2", "input_validation: no"), 11, 21, "processing.input_validation",
        "true or false", "'no'", "write true or false",
    ),
    "number for a boolean": (
        changed("routers: 2", "input_validation: 1"), 11, 21, "processing.input_validation",
        "true or false", "1", "",
    ),
    "out of range": (
        changed("routers: 2", "routers: 65"), 11, 12, "processing.routers",
        "a whole number between 1 and 64", "65", "",
    ),
    "not a number": (
        changed("routers: 2", "request_timeout_s: .nan"), 11, 22, "processing.request_timeout_s",
        "a number above 0 and at most 86400", "nan", "",
    ),
    "word that is not offered": (
        changed("routers: 2", "routers: 2\nsession: {store: sqlit}"), 12, 18, "session.store",
        "one of sqlite, memory, postgres, redis", "'sqlit'", "did you mean sqlite?",
    ),
    "section without a value": (
        changed("processing:\n  routers: 2\n", "processing:\n"), 10, 1, "processing",
        "a mapping", "null", "give it a value or remove the key",
    ),
    "text for a list": (
        changed("temperature: 0.5", "capabilities: billing"), 4, 19, "agents.0.capabilities",
        "a list of text", "text", "write it in brackets: [one, two]",
    ),
    "mapping for a list": (
        "name: team\nagents: {name: a}\n", 2, 9, "agents",
        "a list of mappings with at least one entry", "a mapping", "",
    ),
    "empty list": (
        "name: team\nagents: []\n", 2, 9, "agents",
        "a list of mappings with at least one entry", "an empty list", "",
    ),
    "neither member of a union": (
        changed("provider: openai", "base_url: 3"), 8, 15, "models.0.base_url",
        "text or a list of text or null", "3", "put it in quotes",
    ),
    "wrong entry of a list in a union": (
        changed("provider: openai", "base_url: [a, 3]"), 8, 19, "models.0.base_url.1",
        "text", "3", "put it in quotes",
    ),
    "name with a blank": (
        changed("name: team", "name: my team"), 1, 7, "name",
        "a name (1 to 64 letters, digits, dots, dashes, underscores; first a letter or digit)", "'my team'", "",
    ),
    "missing required key": (
        changed("- name: b", "- role: b"), 5, 5, "agents.1.name",
        "a name (1 to 64 letters, digits, dots, dashes, underscores; first a letter or digit)",
        "nothing", "the key is required",
    ),
    "min above max": (
        changed("temperature: 0.5", "replicas: {min: 3, max: 2}"), 4, 29, "agents.0.replicas.max",
        "at least min (3)", "2", "",
    ),
    "min above the default max": (
        changed("temperature: 0.5", "replicas: {min: 9}"), 4, 15, "agents.0.replicas.max",
        "at least min (9)", "4", "",
    ),
    "shortest message above the longest": (
        changed("routers: 2", "min_length: 9\n  max_length: 8"), 12, 15, "processing.max_length",
        "at least min_length (9)", "8", "",
    ),
    "rule without a target": (
        changed("processing:", "routing: {rules: [{keywords: [x]}]}\nprocessing:"), 10, 19,
        "routing.rules.0.target_agent", "either target_agent or target_agents", "neither", "",
    ),
    "agent on an unknown model": (
        changed("temperature: 0.5", "model: gtp"), 4, 12, "agents.0.model",
        "the name of a model (gpt, offline)", "'gtp'", "",
    ),
    "rule to an unknown agent": (
        changed("processing:", "routing:\n  rules:\n    - {keywords: [x], target_agents: [a, c]}\nprocessing:"), 12, 42,
        "routing.rules.0.target_agents.1", "the name of an agent (a, b)", "'c'", "",
    ),
    "unknown default agent": (
        changed("processing:", "routing: {default_agent: c}\nprocessing:"), 10, 26,
        "routing.default_agent", "the name of an agent (a, b)", "'c'", "",
    ),
    "delegation to an unknown agent": (
        changed("temperature: 0.5", "delegation_rules: [{keywords: [x], agent: c}]"), 4, 47,
        "agents.0.delegation_rules.0.agent", "the name of an agent (a, b)", "'c'", "",
    ),
    "duplicate agent": (
        changed("- name: b", "- name: a"), 5, 11, "agents.1.name",
        "a name that is used once", "'a' again", "",
    ),
    "agent named like the workflow": (
        changed("name: team", "name: a"), 1, 7, "name",
        "a name that no agent has (both are model ids)", "'a'", "",
    ),
    "variable that is not set": (
        changed("sk-very-secret", "${NO_SUCH_KEY}"), 9, 14, "models.0.api_key",
        "the environment variable NO_SUCH_KEY to be set", "nothing",
        "set it, or give a default: ${NO_SUCH_KEY:-default}",
    ),
    "half a reference": (
        changed("sk-very-secret", "${OPEN"), 9, 14, "models.0.api_key",
        "${NAME} or ${NAME:-default}", "'${OPEN'", "write $${ where ${ itself is meant",
    ),
    "knowledge that is not there": (
        changed("provider: openai", "knowledge: /no/such/file.md"), 8, 16, "models.0.knowledge",
        "an existing text file", "'/no/such/file.md'", f"it is looked for in {Path.cwd()}",
    ),
    "alias": (
        changed("name: a\n", "name: *team\n"), 3, 11, "agents.0.name",
        "a value", "an alias (*)", "aliases are not supported: write the value out",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_each_kind_of_mistake_names_place_key_expectation_and_finding(kind: str) -> None:
    source, line, column, key, expected, got, hint = BROKEN[kind]
    assert problems(source) == [
        {
            "file": "team.yaml", "line": line, "column": column, "key": key,
            "expected": expected, "got": got, "hint": hint,
        }
    ]  # fmt: skip


def test_a_good_file_loads_with_all_defaults() -> None:
    config = load_text(TEAM, env={})
    assert config.agents[0].temperature == 0.5
    assert config.processing.routers == 2
    assert config.processing.drain_s == 30.0
    assert config.model("gpt").api_key == SecretStr("sk-very-secret")
    assert config.model("offline").provider == "offline"


def test_a_whole_number_is_good_for_a_key_that_takes_fractions() -> None:
    temperature = load_text(changed("0.5", "1"), env={}).agents[0].temperature
    assert (temperature, type(temperature)) == (1.0, float)


def test_all_problems_are_reported_at_once_in_the_order_of_the_file() -> None:
    source = changed("temperature: 0.5", "temprature: 1\n    max_tokens: abc")
    source = changed("sk-very-secret", "${NO_SUCH_KEY}", changed("routers: 2", "routers: 100\n  routers: 3", source))
    found = problems(source, ["session.store=x"])
    assert [(problem["key"], problem["line"]) for problem in found] == [
        ("agents.0.temprature", 4),
        ("agents.0.max_tokens", 5),
        ("models.0.api_key", 10),
        ("processing.routers", 13),
        ("session.store", None),
    ]


def test_the_message_has_one_line_for_each_problem() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_text(changed("routers: 2", "routers: 100\n  drain_s: x"), "team.yaml", env={})
    assert str(caught.value).splitlines() == [
        "2 problems in the configuration",
        "  team.yaml:11:12: processing.routers: expected a whole number between 1 and 64, got 100",
        "  team.yaml:12:12: processing.drain_s: expected a number between 0 and 3600, got 'x'",
    ]


def test_a_file_with_thousands_of_problems_shows_the_first_fifty() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_text(TEAM + "".join(f"key{i}: 1\n" for i in range(1000)), env={})
    assert len(caught.value.details["problems"]) == 50
    assert str(caught.value).splitlines()[-1] == "  ... and 950 more"


def test_the_error_survives_pickling_and_the_way_between_processes() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_text("name: 1\n", env={})
    for copy in (pickle.loads(pickle.dumps(caught.value)), from_info(caught.value.to_info())):
        assert isinstance(copy, ConfigurationError)
        assert copy.details == caught.value.details


@pytest.mark.parametrize(
    "line",
    [
        "security: sk-secret",
        "security: {api_keys: sk-secret}",
        "security: {api_keys: [{key: sk-secret}]}",
        "security: {api_key: sk-secret}",
        "api_key: sk-secret",
        "models: sk-secret",
        "models: [{name: m, api_key: [sk-secret]}]",
        "models: [{name: m, headers: sk-secret}]",
        "models: [{name: m, headers: {Authorization: [sk-secret]}}]",
        "models: [{name: 'x ${SECRET}'}]",
        "routing: {default_agent: '${SECRET}'}",
        "processing: {routers: '${SECRET}'}",
        "routing: {rules: '${SECRETS}'}",
    ],
)
def test_no_message_shows_a_secret(line: str) -> None:
    problems(f"name: team\nagents: [{{name: a}}]\n{line}\n", SECRET="sk-secret", SECRETS="[sk-secret]")


def test_knowledge_is_found_beside_the_workflow_file(tmp_path: Path) -> None:
    (tmp_path / "facts.md").write_text("Facts.")
    (tmp_path / "team.yaml").write_text(changed("provider: openai", "knowledge: facts.md"))
    assert load(tmp_path / "team.yaml", env={}).model("gpt").knowledge == str(tmp_path / "facts.md")


def test_a_file_that_cannot_be_opened_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path / "none.yaml", env={})
    assert str(caught.value) == (
        f"{tmp_path}/none.yaml: expected a readable workflow file, got no such file or directory; "
        "`rayflow init` writes one to start from"
    )
    with pytest.raises(ConfigurationError, match="is a directory"):
        load(tmp_path, env={})


def test_without_a_file_the_default_one_is_loaded_and_else_the_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_or_example(None, env={}).name == "support-team"
    (tmp_path / "rayflow.yaml").write_text(TEAM)
    assert load_or_example(None, env={}).name == "team"
    assert load_or_example(None, ["name=other"], env={}).name == "other"
    with pytest.raises(ConfigurationError, match=r"none\.yaml"):
        load_or_example("none.yaml", env={})


def test_a_program_may_hand_in_plain_data() -> None:
    config = from_dict({"name": "team", "agents": [{"name": "a"}], "security": {"api_keys": [SecretStr("k")]}})
    assert config.security.api_keys[0].get_secret_value() == "k"


def test_problems_of_plain_data_have_keys_but_no_file() -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_dict({"name": "team", "agents": [{"name": "a", "model": "x"}], "models": ({"name": "y"},)})
    (problem,) = caught.value.details["problems"]
    assert problem["file"] is None
    assert str(caught.value) == "models: expected a list of mappings, got a Python tuple"


@given(st.data())
def test_a_starter_file_with_any_change_loads_or_is_refused_as_a_configuration(data: st.DataObject) -> None:
    text = STARTER
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 30))
        pieces = st.sampled_from(
            ["\n", "  ", "- ", ": ", "&a ", "*a", "!x ", "${", "${HOME}", "[", "{", "'", "|", "#", "1e9"]
        )
        new = data.draw(st.one_of(pieces, st.text(max_size=8)))
        text = text[:start] + new + text[start + length :]
    try:
        assert isinstance(load_text(text, env={"HOME": "/root"}), WorkflowConfig)
    except ConfigurationError as error:
        assert error.details["problems"]
