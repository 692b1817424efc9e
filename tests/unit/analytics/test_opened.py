"""Open segments: whole batches up to the mark, and no damage that goes unnoticed."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_samples import SOURCE

from rayflow.analytics.opened import Batch, OpenSegment, ends, read_open, recover, take_over


def batch(number: int, size: int = 40) -> Batch:
    return Batch(f"origin-{number % 3}", number, 1, b"%d" % number * size + b"\n")


@pytest.fixture
def opened(root: Path) -> OpenSegment:
    root.mkdir()
    return OpenSegment(root, SOURCE)


def test_what_was_appended_is_read_in_order(opened: OpenSegment) -> None:
    opened.append([batch(0), batch(1)])
    opened.append([batch(2)])
    found = read_open(opened.path)
    assert found.batches == [batch(0), batch(1), batch(2)]
    assert found.damage == ""
    assert found.rows == 3
    assert ends(found.batches) == {"origin-0": 1, "origin-1": 2, "origin-2": 3}


def test_what_stands_behind_the_mark_is_left_out_but_not_for_who_takes_the_file_over(opened: OpenSegment) -> None:
    opened.append([batch(0)])
    with opened.path.open("ab") as file:
        file.write(batch(1).encode() + batch(2).encode()[:20])
    assert read_open(opened.path).batches == [batch(0)]
    assert read_open(opened.path).damage == ""
    assert read_open(opened.path, behind_mark=True).batches == [batch(0), batch(1)]
    assert read_open(opened.path, behind_mark=True).damage == ""
    opened.close()
    assert recover(opened.path).batches == [batch(0), batch(1)]
    assert read_open(opened.path).batches == [batch(0), batch(1)]
    assert read_open(opened.path).damage == ""


def test_a_batch_that_the_disk_took_half_of_leaves_no_trace(
    opened: OpenSegment, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.append([batch(0)])
    whole, pwrite = opened.path.read_bytes(), os.pwrite

    def half(file: int, data: memoryview, at: int) -> int:
        if len(data) > 30:
            return pwrite(file, data[:30], at)
        raise OSError(28, "No space left on device")

    for failing in (half, lambda file, data, at: half(file, memoryview(bytes(data)), at)):
        monkeypatch.setattr("rayflow.analytics.opened.os.pwrite", failing)
        with pytest.raises(OSError, match="No space left"):
            opened.append([batch(1), batch(2)])
        monkeypatch.undo()
        assert opened.path.read_bytes() == whole
    opened.append([batch(1)])
    assert read_open(opened.path).batches == [batch(0), batch(1)]


@pytest.mark.parametrize("calls", range(1, 4))
def test_wherever_a_write_ends_readers_see_whole_batches(
    opened: OpenSegment, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """The process is gone after so many writes, of which the last was cut short."""
    opened.append([batch(0)])
    made, pwrite = 0, os.pwrite

    class Killed(BaseException):
        pass

    def write(file: int, data: memoryview, at: int) -> int:
        nonlocal made
        made += 1
        if made > calls:
            raise Killed
        return pwrite(file, data[: max(1, len(data) // 2)], at) if made < calls or calls < 3 else pwrite(file, data, at)

    monkeypatch.setattr("rayflow.analytics.opened.os.pwrite", write)
    with pytest.raises(Killed):
        opened.append([batch(1), batch(2)])
    monkeypatch.undo()
    found = read_open(opened.path)
    assert (found.batches, found.damage) == ([batch(0)], "")


def test_one_flipped_bit_anywhere_is_found_and_costs_one_batch_at_most(opened: OpenSegment) -> None:
    batches = [batch(number) for number in range(20)]
    opened.append(batches)
    whole = opened.path.read_bytes()
    rng = random.Random(6)
    for _ in range(200):
        at = rng.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[at] ^= 1 << rng.randrange(8)
        opened.path.write_bytes(damaged)
        found = read_open(opened.path)
        assert found.damage
        assert len(found.batches) >= len(batches) - 1
        assert [one for one in batches if one in found.batches] == found.batches


def test_wherever_it_is_cut_off_that_is_found(opened: OpenSegment) -> None:
    batches = [batch(number) for number in range(20)]
    ends_at = []
    for one in batches:
        opened.append([one])
        ends_at.append(opened.size)
    whole = opened.path.read_bytes()
    rng = random.Random(6)
    for size in [*ends_at[:-1], 0, 1, 27, 28, *(rng.randrange(len(whole)) for _ in range(50))]:
        opened.path.write_bytes(whole[:size])
        found = read_open(opened.path)
        assert found.damage
        assert found.batches == batches[: len(found.batches)]


def test_only_the_file_of_a_writer_that_is_gone_can_be_taken_over(opened: OpenSegment) -> None:
    assert take_over(opened.path) is None
    opened.close()
    lock = take_over(opened.path)
    assert lock is not None
    assert take_over(opened.path) is None
    os.close(lock)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.builds(Batch, st.text(max_size=5), st.integers(0, 2**40), st.integers(1, 9), st.binary(max_size=60)),
        min_size=1,
        max_size=9,
    )
)
def test_any_bytes_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, batches: list[Batch]) -> None:
    opened = OpenSegment(tmp_path_factory.mktemp("log"), SOURCE)
    opened.append(batches)
    assert read_open(opened.path).batches == batches
    opened.close()
