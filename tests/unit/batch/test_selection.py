from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayflow.batch.rows import BadRow, InputRow
from rayflow.batch.selection import draw, fulfilling, sample, selected
from rayflow.batch.spec import Selection
from rayflow.errors import ValidationError


class Rows:
    """`values`, read again and again."""

    def __init__(self, *values: object) -> None:
        self.values = values
        self.blank_lines = 0
        self.passes = 0

    def rows(self) -> Iterator[InputRow]:
        self.passes += 1
        return (InputRow(n, value) for n, value in enumerate(self.values, 1))


def ordinals(values: list[object], where: str) -> list[int]:
    return [row.ordinal for row in fulfilling(Rows(*values).rows(), where)]


def test_a_condition_sees_the_fields_of_a_row_and_null_where_there_is_none() -> None:
    values: list[object] = [{"lang": "de", "n": 1}, {"lang": "en", "n": 5}, {"n": 9}, {"lang": "de", "tags": ["x"]}]
    assert ordinals(values, "lang = 'de'") == [1, 4]
    assert ordinals(values, "n > 3") == [2, 3]
    assert ordinals(values, "lang is null") == [3]
    assert ordinals(values, "tags[1] = 'x' -- with a comment") == [4]


def test_a_condition_goes_on_from_chunk_to_chunk_with_the_fields_of_the_first() -> None:
    values: list[object] = [{"n": n, "text": "it's"} for n in range(3000)]
    values[2500] = {"n": "not a number", "late": 1}
    assert ordinals(values, "n % 1000 = 7 and text = 'it''s'") == [8, 1008, 2008]


def test_bad_rows_fulfil_every_condition() -> None:
    values = [{"n": 1}, BadRow("invalid-json", "?"), {"n": 2}]
    assert ordinals(values, "n = 2") == [2, 3]


@pytest.mark.parametrize(
    "where",
    ["nowhere = 1", "n = ", "n = 1; drop table chunk", "n in (select size from read_text('/etc/passwd'))"],
)
def test_a_condition_that_is_none_or_reaches_beyond_the_rows_is_refused(where: str) -> None:
    with pytest.raises(ValidationError, match="cannot be used"):
        ordinals([{"n": 1}], where)


def test_each_row_is_as_likely_to_be_drawn_as_any_other() -> None:
    drawn = Counter(n for seed in range(2000) for n in sample(Rows(*range(20)).rows(), 5, seed))
    assert len(drawn) == 20 and all(400 < times < 600 for times in drawn.values())  # 500 expected, 19 the deviation


def test_a_sample_is_in_order_and_no_larger_than_what_there_is() -> None:
    assert [*sample(Rows(*range(3)).rows(), 5, 1)] == [1, 2, 3]
    found = [*sample(Rows(*range(1000)).rows(), 50, 1)]
    assert found == sorted(found) and len(set(found)) == 50


def test_a_sample_is_drawn_once_and_kept_also_when_the_input_grows(tmp_path: Path) -> None:
    wanted, drawn = Selection(where="n >= 100", sample=10, seed=3), tmp_path / "sample.bin"
    rows = Rows(*({"n": n} for n in range(200)))
    draw(rows, wanted, drawn)
    first = [row.ordinal for row in selected(rows.rows(), wanted, None, drawn)]
    assert len(first) == 10 and min(first) > 100
    more = Rows(*({"n": n} for n in range(300)))
    draw(more, wanted, drawn)
    assert more.passes == 0
    assert [row.ordinal for row in selected(more.rows(), wanted, None, drawn)] == first
    assert [row.ordinal for row in selected(more.rows(), wanted, 4, drawn)] == first[:4]
