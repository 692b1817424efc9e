from __future__ import annotations

from pathlib import Path

import pytest

from rayflow.batch.folder import JobFolder
from rayflow.batch.source import InputIdentity, Source
from rayflow.errors import Conflict, StorageError

INPUT = InputIdentity("in.jsonl", 10, "aa")


def test_a_start_is_noted_before_anything_is_run(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "deep" / "out")
    with folder.opened(INPUT, 5) as (first, _):
        assert first.starts == 1 and first.created_us == 5
    with folder.opened(INPUT, 6) as (second, _):
        assert (second.job_id, second.starts, second.created_us) == (first.job_id, 2, 5)
    assert first.session_id(3) != second.session_id(3)


def test_planning_writes_nothing(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "out")
    assert folder.plan(INPUT, 0).starts == 1
    assert not folder.path.exists()


@pytest.mark.parametrize("other", [InputIdentity("in.jsonl", 10, "bb"), InputIdentity("in.jsonl", 10, "aa", "text")])
def test_another_input_is_refused_and_nothing_is_changed(tmp_path: Path, other: InputIdentity) -> None:
    folder = JobFolder(tmp_path)
    with folder.opened(INPUT, 0):
        pass
    before = folder.job.read_bytes()
    with pytest.raises(Conflict, match=r"in\.jsonl \(10 bytes, field any\); use another folder, or --overwrite"):
        folder.plan(other, 0)
    assert folder.job.read_bytes() == before


def test_a_moved_input_is_the_same_input(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    with folder.opened(INPUT, 0):
        pass
    assert folder.plan(InputIdentity("elsewhere.jsonl", 10, "aa"), 0).starts == 2


def test_overwrite_forgets_the_job_but_no_other_files(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    with folder.opened(INPUT, 0) as (old, _):
        pass
    folder.results_jsonl.write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    with folder.opened(InputIdentity("other", 1, "cc"), 0, overwrite=True) as (new, journal):
        assert new.job_id != old.job_id and new.starts == 1 and journal.count == 0
    assert not folder.results_jsonl.exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    with JobFolder(tmp_path).opened(INPUT, 0), pytest.raises(Conflict, match="another batch is writing"):
        JobFolder(tmp_path).opened(INPUT, 0).__enter__()
    with JobFolder(tmp_path).opened(INPUT, 0) as (job, _):
        assert job.starts == 2


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("")
    with pytest.raises(Conflict, match="is a file"):
        JobFolder(path).plan(INPUT, 0)


def test_results_of_somebody_else_are_not_overwritten_unasked(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    folder.results_jsonl.write_text("precious")
    with pytest.raises(Conflict, match=r"no job\.json"):
        folder.plan(INPUT, 0)


def test_a_damaged_job_file_is_named(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    folder.job.write_text("{")
    with pytest.raises(StorageError, match=r"job\.json is damaged"):
        folder.plan(INPUT, 0)


def test_the_identity_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"x" * 3_000_000)
    before = Source(path).identity()
    assert before.size_bytes == 3_000_000
    path.write_bytes(b"x" * 1_500_000 + b"y" + b"x" * 1_499_999)
    assert not Source(path).identity().same_items(before)
