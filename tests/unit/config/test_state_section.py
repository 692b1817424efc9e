"""The fields of a working state, checked when the workflow file is loaded."""

from __future__ import annotations

import pytest

from rayflow.config.load import load_text
from rayflow.config.transfer import dump, restore
from rayflow.errors import ConfigurationError

HEAD = "name: w\nagents: [{name: a}]\nstate:\n  fields:\n"


def problem(line: str) -> str:
    with pytest.raises(ConfigurationError) as refusal:
        load_text(f"{HEAD}{line}", "team.yaml")
    return refusal.value.message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("    - {name: a b}", "team.yaml:5:14: state.fields.0.name: expected text, got 'a b'"),
        ("    - {name: n, type: int}", "team.yaml:5:23: state.fields.0.type: expected one of string, integer"),
        ("    - {name: n, typ: list}", "team.yaml:5:17: state.fields.0.typ: expected a known key, got 'typ'"),
        (
            "    - {name: n, type: list, reducer: add}",
            "team.yaml:5:38: state.fields.0.reducer: expected one of replace, append, union, for type list, got 'add'",
        ),
        (
            "    - {name: n, type: integer, default: x}",
            "team.yaml:5:41: state.fields.0.default: expected a whole number of 64 bits, got text",
        ),
        (
            "    - {name: n, default: [.inf], type: number}",
            "state.fields.0.default: expected a finite number, got a list",
        ),
        ("    - {name: n, type: number, default: .inf}", "state.fields.0.default: expected a finite number"),
        ("    - {name: n, enum: [a, b], default: c}", "state.fields.0.default: expected one of a, b, got 'c'"),
        ("    - {name: n, type: list, default: [1, 2], max_items: 1}", "default: expected a list of at most 1 items"),
        ("    - {name: n, type: list, enum: [a]}", "team.yaml:5:35: state.fields.0.enum: expected type string"),
        ("    - {name: n, max_items: 3}", "state.fields.0.max_items: expected type list or object, got type string"),
        (
            "    - {name: n, type: list, max_length: 3}",
            "state.fields.0.max_length: expected type string, got type list",
        ),
        ("    - name: n\n    - name: n", "team.yaml:6:13: state.fields.1.name: expected a name that is used once"),
    ],
)
def test_a_wrong_field_is_refused_with_its_place(line: str, message: str) -> None:
    assert message in problem(line)


def test_fields_of_every_type_survive_the_way_to_an_actor() -> None:
    config = load_text(
        f"""{HEAD}
    - {{name: stage, enum: [new, paid], default: new, in_context: true}}
    - {{name: cart, type: object, reducer: merge, default: {{tea: [1, {{sugar: true}}]}}, max_items: 5}}
    - {{name: log, type: list, reducer: append, default: [1, two, null]}}
    - {{name: total, type: number, reducer: add, default: 0}}
    - {{name: best, type: integer, reducer: max}}
    - {{name: done, type: boolean, default: false}}
    - {{name: tags, type: list, reducer: union}}
"""
    )
    assert restore(dump(config)) == config
    assert [field.name for field in config.state.shown] == ["stage"]
    assert config.state.fields[1].default == {"tea": [1, {"sugar": True}]}


def test_a_workflow_without_fields_has_no_state() -> None:
    config = load_text("name: w\nagents: [{name: a}]")
    assert (config.state.fields, config.state.shown, config.state.history, config.state.checkpoints) == (
        [],
        [],
        100,
        100,
    )
