from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.config.yaml import MAX_BYTES, MAX_DEPTH, Position, parse, parse_value, scalar
from rayflow.errors import ConfigurationError


def refusal(source: bytes | str) -> dict[str, object]:
    """The last problem of a text that cannot be read."""
    with pytest.raises(ConfigurationError) as caught:
        parse(source if isinstance(source, bytes) else source.encode(), "team.yaml")
    problem: dict[str, object] = caught.value.details["problems"][-1]
    return problem


def test_every_key_and_value_knows_its_line_and_column() -> None:
    positions = parse(b"name: x\nagents:\n  - name: a\n    replicas: {min: 1}\n  - b\n", "f").positions
    assert positions.key("name") == Position(1, 1)
    assert positions.value("name") == Position(1, 7)
    assert positions.key("agents.0.replicas.min") == Position(4, 16)
    assert positions.value("agents.0.replicas.min") == Position(4, 21)
    assert positions.value("agents.1") == Position(5, 5)


def test_a_block_below_its_key_and_a_missing_value_stand_where_the_key_stands() -> None:
    positions = parse(b"a:\n  b: 1\nc:\nd: 2\n", "f").positions
    assert positions.value("a") == Position(1, 1)
    assert positions.value("c") == Position(3, 1)


def test_an_unknown_path_has_the_place_of_the_section_around_it() -> None:
    assert parse(b"x: 1\na:\n  b: {c: 1}\n", "f").positions.key("a.b.z.y") == Position(3, 3)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None),
        ("true", True), ("FALSE", False),
        ("no", "no"), ("on", "on"), ("12:30:45", "12:30:45"), ("1_000", "1_000"), ("2026-11-21", "2026-11-21"),
        ("012", 12), ("-7", -7), ("0o17", 15), ("0xff", 255),
        ("1e3", 1000.0), (".5", 0.5), ("1.", 1.0), ("-.inf", -math.inf),
        ("9" * 65, "9" * 65),
    ],
)  # fmt: skip
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    read = scalar(text)
    assert read == value
    assert type(read) is type(value)


def test_quoted_scalars_and_blocks_are_text() -> None:
    assert parse(b"a: '1'\nb: \"true\"\nc: |\n  1\n", "f").data == {"a": "1", "b": "true", "c": "1\n"}


def test_a_duplicate_key_is_reported_with_both_lines_and_the_first_value_is_kept() -> None:
    document = parse(b"a: 1\nb: 2\na: 3\n", "f")
    (problem,) = document.problems
    assert (problem.key, problem.line, problem.column) == ("a", 3, 1)
    assert (problem.expected, problem.got) == ("each key once", "it again (first on line 1)")
    assert document.data["a"] == 1


def test_anchors_aliases_and_tags_are_all_reported() -> None:
    document = parse(b"a: &x 1\nb: *x\nc: !!str 2\nd: !!python/object:os.system {}\n", "f")
    assert [(problem.key, problem.line, problem.got) for problem in document.problems] == [
        ("a", 1, "an anchor (&)"),
        ("b", 2, "an alias (*)"),
        ("c", 3, "a tag (!)"),
        ("d", 4, "a tag (!)"),
    ]


def test_an_alias_bomb_is_not_expanded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    document = parse("\n".join(lines).encode(), "f")
    assert document.data["a11"] == [None] * 10
    assert len(document.problems) == 12 + 110


def test_keys_must_be_text() -> None:
    document = parse(b"1: a\ntrue: b\n[x]: c\nnull: d\n", "f")
    assert [(problem.key, problem.line) for problem in document.problems] == [
        ("1", 1),
        ("True", 2),
        ("?", 3),
        ("None", 4),
    ]
    assert {problem.expected for problem in document.problems} == {"a key that is text"}


def test_the_deepest_nesting_allowed_is_read_and_one_level_more_is_not() -> None:
    lists = MAX_DEPTH - 1
    assert parse(b"a: " + b"[" * lists + b"]" * lists, "f").data
    problem = refusal(b"a: " + b"[" * (lists + 1) + b"]" * (lists + 1))
    assert problem["expected"] == f"at most {MAX_DEPTH} levels of nesting"
    assert (problem["line"], problem["column"]) == (1, 4 + lists)


def test_a_hundred_thousand_open_brackets_are_refused_without_recursion() -> None:
    assert refusal(b"a: " + b"[" * 100_000)["got"] == "more"


def test_a_file_larger_than_a_mebibyte_is_refused() -> None:
    assert parse(b"a: 1 #" + b"x" * (MAX_BYTES - 6), "f").data == {"a": 1}
    assert refusal(b"a: 1 #" + b"x" * (MAX_BYTES - 5))["expected"] == f"at most {MAX_BYTES} bytes"


def test_a_key_too_long_to_be_kept_for_every_value_below_it_is_refused() -> None:
    assert refusal(f"? {'k' * 600}\n: 1\n")["expected"] == "keys of at most 512 characters in all"


def test_bytes_that_are_not_utf8_are_refused_at_their_place() -> None:
    problem = refusal("a: 1\nb: grün\n".encode("latin-1"))
    assert (problem["line"], problem["column"], problem["got"]) == (2, 6, "the byte 0xfc")
    assert refusal("a: 1".encode("utf-16"))["expected"] == "UTF-8 text"


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse(b"\xef\xbb\xbfa: 1", "f").data == {"a": 1}
    assert refusal(b"\xef\xbb\xbfa: \xff")["column"] == 4


def test_control_characters_and_half_surrogates_are_refused_at_their_place() -> None:
    assert refusal("a: 1\nb: \x07\n") | {"hint": ""} == {
        "file": "team.yaml", "line": 2, "column": 4, "key": "",
        "expected": "printable text", "got": "the character U+0007", "hint": "",
    }  # fmt: skip
    assert refusal('a: 1\nb: "\\ud800"\n')["expected"] == "Unicode text"


@pytest.mark.parametrize(
    ("source", "line", "column", "got", "hint"),
    [
        ("a: [1, 2\nb: 3\n", 2, 2, "expected ',' or ']'", ""),
        ("a:\n\tb: 1\n", 2, 1, "'\\t' that cannot start any token", "indent with spaces, not tabs"),
        ("a: b: c\n", 1, 5, "mapping values are not allowed here", "put text that holds a colon in quotes"),
        ("a: [${KEY}]\n", 1, 6, "got '{'", "inside [ ] and { } put ${NAME} in quotes"),
        ("a: 'open\n", 2, 1, "end of stream", ""),
        ('a: "\\U00110000"\n', 1, 1, "impossible character", ""),
        ("%YAML 1.11\n---\na: 1\n", 1, 1, "impossible character or number", ""),
    ],
)
def test_a_syntax_error_names_line_column_and_cause(source: str, line: int, column: int, got: str, hint: str) -> None:
    problem = refusal(source)
    assert (problem["line"], problem["column"], problem["hint"]) == (line, column, hint)
    assert problem["expected"] == "valid YAML"
    assert got in str(problem["got"])


def test_a_second_document_and_directives_are_refused() -> None:
    assert refusal("a: 1\n---\nb: 2\n")["expected"] == "one document"
    assert refusal("%YAML 1.1\n---\na: no\n")["expected"] == "YAML 1.2 without directives"


@pytest.mark.parametrize(
    ("source", "got"), [("", "nothing"), ("# only a comment\n", "nothing"), ("- a\n", "a list"), ("text\n", "text")]
)
def test_a_root_that_is_no_mapping_is_refused(source: str, got: str) -> None:
    problem = refusal(source)
    assert (problem["expected"], problem["got"], problem["line"]) == ("a mapping of keys to values", got, 1)


def test_a_single_value_may_be_a_scalar_or_a_list_but_never_an_alias() -> None:
    assert parse_value("0.5", "flag") == 0.5
    assert parse_value("[a, {b: 1}]", "flag") == ["a", {"b": 1}]
    with pytest.raises(ConfigurationError):
        parse_value("*x", "flag")


@given(st.text(alphabet="ab01:-[]{},#&*!|>'\"%@`?~ \n\t\\xuU/.<=\r\x85é", max_size=60))
def test_any_text_is_read_or_refused_with_its_place(source: str) -> None:
    try:
        parse(source.encode(), "f")
    except ConfigurationError as error:
        assert all(problem["line"] >= 1 and problem["column"] >= 1 for problem in error.details["problems"])
