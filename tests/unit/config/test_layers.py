from __future__ import annotations

import pytest
from pydantic import SecretStr

from rayflow.config.load import load_text
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import ConfigurationError

TEAM = "name: team\nagents:\n  - name: a\n    temperature: 0.5\n  - name: b\nprocessing: {routers: 2}\n"


def load(*flags: str, **env: str) -> WorkflowConfig:
    return load_text(TEAM, "team.yaml", flags, env)


def problem(*flags: str, **env: str) -> dict[str, object]:
    with pytest.raises(ConfigurationError) as caught:
        load(*flags, **env)
    (found,) = caught.value.details["problems"]
    assert found["line"] is None
    return dict(found)


def test_a_variable_overrides_the_file_and_a_flag_overrides_the_variable() -> None:
    assert load().processing.routers == 2
    assert load(RAYFLOW_PROCESSING__ROUTERS="3").processing.routers == 3
    assert load("processing.routers=4", "processing.routers=5", RAYFLOW_PROCESSING__ROUTERS="3").processing.routers == 5


def test_list_entries_are_named_by_number_and_the_next_number_adds_one() -> None:
    config = load(
        "agents.2.name=c",
        RAYFLOW_AGENTS__0__TEMPERATURE="1",
        RAYFLOW_SECURITY__API_KEYS__0="k",
        RAYFLOW_AGENTS__1__SEED="7",
    )
    assert [agent.name for agent in config.agents] == ["a", "b", "c"]
    assert config.agents[0].temperature == 1.0
    assert config.agents[1].seed == 7
    assert config.security.api_keys == [SecretStr("k")]


def test_entries_are_added_in_the_order_of_their_numbers() -> None:
    keys = {f"RAYFLOW_SECURITY__API_KEYS__{i}": f"k{i}" for i in reversed(range(12))}
    assert [key.get_secret_value() for key in load(**keys).security.api_keys] == [f"k{i}" for i in range(12)]


@pytest.mark.parametrize("text", ["1", "1.10", "true", "a: b", "x # y", "*x", "'q'", " "])
def test_text_is_taken_as_it_stands(text: str) -> None:
    config = load(
        f"description={text}", RAYFLOW_VERSION=text, RAYFLOW_MODELS__0__NAME="m", RAYFLOW_MODELS__0__API_KEY=text
    )
    assert (config.description, config.version) == (text, text)
    assert config.models[0].api_key == SecretStr(text)


def test_lists_and_mappings_are_read_as_yaml() -> None:
    config = load("agents.0.replicas={min: 2, max: 3}", RAYFLOW_AGENTS__1__CAPABILITIES="[x, 'y z']")
    assert config.agents[0].replicas.min == 2
    assert config.agents[1].capabilities == ["x", "y z"]


def test_an_endpoint_may_be_one_text_or_a_list() -> None:
    assert load("models.0={name: m}", "models.0.base_url=http://x/v1").models[0].base_url == "http://x/v1"
    assert load("models.0={name: m}", "models.0.base_url=[http://x, http://y]").models[0].base_url == [
        "http://x",
        "http://y",
    ]


def test_an_empty_value_unsets_a_key_that_may_be_unset() -> None:
    assert load(RAYFLOW_AGENTS__0__TEMPERATURE="").agents[0].temperature is None
    assert load(RAYFLOW_STORAGE__EVENTS="").storage.events is None
    assert load(RAYFLOW_DESCRIPTION="").description == ""


def test_names_of_headers_keep_their_case() -> None:
    config = load(**{"RAYFLOW_MODELS__0__NAME": "m", "RAYFLOW_MODELS__0__HEADERS__X-Tenant": "t"})
    assert config.models[0].headers == {"X-Tenant": "t"}


def test_variables_that_name_no_section_are_for_others() -> None:
    assert load(RAYFLOW_DEBUG="1", RAYFLOW_CONFIG="x", RAYFLOW_HOME="y", RAYFLOW_API_KEY="z") == load()


def test_a_reference_in_a_flag_is_not_replaced() -> None:
    assert load("description=${HOME}", HOME="/root").description == "${HOME}"


def test_a_flag_makes_up_for_a_variable_that_the_file_misses() -> None:
    assert load_text(TEAM + "version: ${NONE}\n", overrides=["version=2"], env={}).version == "2"


def test_an_unknown_key_under_a_known_section_names_the_variable() -> None:
    assert problem(RAYFLOW_PROCESSING__ROUTER="2") == {
        "file": "RAYFLOW_PROCESSING__ROUTER", "line": None, "column": None, "key": "processing.router",
        "expected": "a known key", "got": "'router'", "hint": "did you mean routers?",
    }  # fmt: skip
    assert problem("sesion.store=memory")["file"] == "--set"


@pytest.mark.parametrize(
    ("flag", "key", "expected", "got"),
    [
        ("processing.routers=two", "processing.routers", "a whole number between 1 and 64", "'two'"),
        ("processing.routers=[", "processing.routers", "a whole number between 1 and 64", "'['"),
        ("processing.routers='2'", "processing.routers", "a whole number between 1 and 64", "'2'"),
        ("agents.0.capabilities=[a, 1]", "agents.0.capabilities.1", "text", "1"),
        ("agents.7.name=x", "agents.7.name", "the number of an entry, 0 to 2", "'7'"),
        ("agents.x.name=x", "agents.x.name", "the number of an entry, 0 to 2", "'x'"),
        ("name.x=1", "name.x", "a section or list to set a key of", "'team'"),
        ("nonsense", "", "KEY=VALUE, such as processing.routers=2", "'nonsense'"),
        ("=1", "", "KEY=VALUE, such as processing.routers=2", "'=1'"),
    ],
)
def test_a_wrong_flag_is_explained(flag: str, key: str, expected: str, got: str) -> None:
    found = problem(flag)
    assert (found["file"], found["key"], found["expected"], found["got"]) == ("--set", key, expected, got)


def test_a_secret_in_a_variable_is_not_shown() -> None:
    assert problem(RAYFLOW_SECURITY__API_KEYS="sk-secret")["got"] == "text"
