from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from rayflow.analytics import manifest
from rayflow.analytics.files import QUARANTINE
from rayflow.analytics.manifest import COPY, MANIFEST, Manifest, Opened, Stored, changing, decode, read_manifest
from rayflow.errors import StorageFull


def segment(number: int) -> Stored:
    return Stored(f"{number}.parquet", "2026-01-01", number, number, "0" * 64)


@pytest.fixture
def written(root: Path) -> Path:
    with changing(root) as made:
        for number in range(5):
            made.add(segment(number))
        made.add(Opened("a.events"))
        made.went_on("router", 17, 4e9)
    return root


def test_what_is_written_is_read(written: Path) -> None:
    found, problems = read_manifest(written)
    assert problems == {}
    assert found.generation == 1
    assert list(found.segments.values()) == [segment(number) for number in range(5)]
    assert (list(found.opened), found.origins["router"].next) == (["a.events"], 17)


def test_without_one_nothing_is_listed(root: Path) -> None:
    assert read_manifest(root) == (Manifest(), {})


def test_a_change_that_changes_nothing_writes_nothing(written: Path) -> None:
    before = (written / MANIFEST).stat().st_ino
    with changing(written) as same:
        same.add(segment(1))
    assert (written / MANIFEST).stat().st_ino == before


def test_a_block_that_raises_changes_nothing(written: Path) -> None:
    with pytest.raises(RuntimeError), changing(written) as wrong:
        wrong.remove("1.parquet", 0.0)
        raise RuntimeError
    assert len(read_manifest(written)[0].segments) == 5


def test_a_full_disk_leaves_the_old_one(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rayflow.analytics.files.os.fsync", full)
    with pytest.raises(StorageFull), changing(written) as changed:
        changed.add(segment(7))
    assert len(read_manifest(written)[0].segments) == 5
    assert list((written / ".staging").glob("*.tmp")) == []


def test_changes_of_several_threads_are_all_in_it(written: Path) -> None:
    def add(number: int) -> None:
        with changing(written) as mine:
            mine.add(segment(number))

    threads = [Thread(target=add, args=(number,)) for number in range(5, 15)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_manifest(written)[0].segments) == 15


def flipped(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


@pytest.mark.parametrize(("damage", "times"), [(flipped, 200), (cut, 50)])
def test_any_damage_is_found_and_costs_nothing_while_the_copy_is_whole(
    written: Path, damage: Callable[[bytes, random.Random], bytes], times: int
) -> None:
    path, rng = written / MANIFEST, random.Random(6)
    whole = path.read_bytes()
    expected = decode(whole)[0]
    for _ in range(times):
        path.write_bytes(damage(whole, rng))
        found, problems = read_manifest(written)
        assert list(problems) == [path]
        assert found == expected


def test_with_both_damaged_what_is_whole_of_either_counts(written: Path) -> None:
    whole = (written / MANIFEST).read_bytes()
    for name, victim in ((MANIFEST, b"1.parquet"), (COPY, b"2.parquet")):
        (written / name).write_bytes(whole.replace(victim, b"x.parquet"))
    found, problems = read_manifest(written)
    assert set(problems) == {written / MANIFEST, written / COPY}
    assert sorted(found.segments) == [f"{number}.parquet" for number in range(5)]


def test_a_damaged_one_is_healed_by_the_next_change_and_what_is_lost_stays_named(written: Path) -> None:
    for name in (MANIFEST, COPY):
        path = written / name
        path.write_bytes(path.read_bytes().replace(b"1.parquet", b"x.parquet"))
    with changing(written) as healed:
        healed.add(segment(9))
    found, problems = read_manifest(written)
    assert problems == {}
    assert "1.parquet" not in found.segments
    assert len(found.damaged) == 2
    assert all((written / QUARANTINE / name).exists() for name in found.damaged)


def test_senders_of_long_ago_are_forgotten(written: Path) -> None:
    with changing(written) as changed:
        changed.went_on("gone", 3, 0.0)
        changed.add(segment(9))
    assert list(read_manifest(written)[0].origins) == ["router"]


def test_one_of_a_newer_version_is_not_guessed_at(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "VERSION", 3)
    with changing(written) as newer:
        newer.add(segment(9))
    monkeypatch.undo()
    found, problems = read_manifest(written)
    assert found.segments == {}
    assert "version 3" in problems[written / MANIFEST]
