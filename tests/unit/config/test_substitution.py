from __future__ import annotations

import pytest

from rayflow.config.load import load_text
from rayflow.config.schema import WorkflowConfig
from rayflow.errors import ConfigurationError


def load(line: str, **env: str) -> WorkflowConfig:
    return load_text(f"name: team\nagents: [{{name: a}}]\n{line}\n", "team.yaml", env=env)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("${NAME}", "x"),
        ("a ${NAME} b ${NAME}", "a x b x"),
        ("${NONE:-d e}", "d e"),
        ("${NONE:-}", ""),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY}", ""),
        ("$${NAME}", "${NAME}"),
        ("$NAME $ $$", "$NAME $ $$"),
        ("${NESTED}", "${NAME}"),
    ],
)
def test_references_are_replaced_as_in_a_shell(written: str, read: str) -> None:
    assert load(f"description: '{written}'", NAME="x", EMPTY="", NESTED="${NAME}").description == read


@pytest.mark.parametrize("value", ["1", "true", "null", "[a]", "a: b"])
def test_what_a_variable_holds_stays_text_where_text_belongs(value: str) -> None:
    assert load("description: ${X}", X=value).description == value


def test_what_a_variable_holds_is_read_as_a_number_list_or_boolean_where_one_belongs() -> None:
    config = load("processing: {routers: '${N}', input_validation: '${B}', drain_s: '${N}.5'}", N="2", B="false")
    assert (config.processing.routers, config.processing.input_validation, config.processing.drain_s) == (2, False, 2.5)
    assert [key.get_secret_value() for key in load("security: {api_keys: '${K}'}", K="[a, b]").security.api_keys] == [
        "a",
        "b",
    ]


def test_keys_and_numbers_outside_of_text_are_left_alone() -> None:
    config = load("models: [{name: m, headers: {'${X}': v}}]", X="y")
    assert config.models[0].headers == {"${X}": "v"}


def test_a_wrong_value_of_a_variable_is_reported_without_the_value() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load("processing:\n  routers: ${N}", N="sk-oops")
    (problem,) = caught.value.details["problems"]
    assert (problem["line"], problem["column"], problem["key"]) == (4, 12, "processing.routers")
    assert problem["got"] == "'${N}' with the variable's value, which is not shown"


def test_every_missing_variable_is_reported_with_its_line() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load("description: ${A}\nversion: ${B}")
    assert [(problem["line"], problem["expected"]) for problem in caught.value.details["problems"]] == [
        (3, "the environment variable A to be set"),
        (4, "the environment variable B to be set"),
    ]
