"""What was learnt, on disk: whole, checked, and absent when it cannot be trusted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rayflow.models.classifier import artefact
from rayflow.models.classifier.artefact import Artefact, load, path_of, save
from rayflow.models.classifier.calibration import Calibration
from rayflow.models.classifier.material import Material


def made(key: str = "k" * 32) -> Artefact:
    return Artefact(key, ["a", "b"], ["=x"], b"\0" * 12, [0.5, -0.5], Calibration(4.0, -1.0), False, {"texts": 3})


def test_what_was_saved_is_loaded_again(tmp_path: Path) -> None:
    save(tmp_path / "new", made())
    assert load(tmp_path / "new", made().key) == made()


def test_nothing_is_loaded_from_nowhere(tmp_path: Path) -> None:
    assert load(tmp_path / "none", "k") is None


@pytest.mark.parametrize("cut", [0, 5, 21, 30, 60, -1])
def test_a_file_that_was_cut_is_absent(tmp_path: Path, cut: int) -> None:
    save(tmp_path, made())
    path = path_of(tmp_path, made().key)
    path.write_bytes(path.read_bytes()[:cut])
    assert load(tmp_path, made().key) is None


@pytest.mark.parametrize("at", [0, 25, 60, -1])
def test_a_file_with_one_flipped_bit_is_absent(tmp_path: Path, at: int) -> None:
    save(tmp_path, made())
    path = path_of(tmp_path, made().key)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert load(tmp_path, made().key) is None


def test_a_whole_file_of_another_content_is_absent(tmp_path: Path) -> None:
    save(tmp_path, made("other"))
    path_of(tmp_path, "other").rename(path_of(tmp_path, "mine"))
    assert load(tmp_path, "mine") is None


def test_nothing_half_written_is_left_behind(tmp_path: Path) -> None:
    save(tmp_path, made())
    assert [file.suffix for file in tmp_path.iterdir()] == [".classifier"]


def test_old_artefacts_are_forgotten_and_the_newest_never(tmp_path: Path) -> None:
    for age in range(artefact.KEPT + 3):
        save(tmp_path, made(f"k{age}"))
        os.utime(path_of(tmp_path, f"k{age}"), (age, age))
    save(tmp_path, made("newest"))
    kept = sorted(file.stem for file in tmp_path.glob("*.classifier"))
    assert "newest" in kept
    assert "k0" not in kept
    assert len(kept) == artefact.KEPT + 1


def test_the_key_changes_with_any_part_of_the_material(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {
        Material(["a", "b"], ["x"], [[0]]).key,
        Material(["a", "c"], ["x"], [[0]]).key,
        Material(["a", "b"], ["y"], [[0]]).key,
        Material(["a", "b"], ["x"], [[1]]).key,
        Material(["a", "b"], ["x"], [[0]], True).key,
    }
    assert len(keys) == 5
    assert Material(["a", "b"], ["x"], [[0]]).key in keys, "the same material has the same key"
    monkeypatch.setattr("rayflow.models.classifier.material.VERSION", 2)
    assert Material(["a", "b"], ["x"], [[0]]).key not in keys
