"""The coordinator's record: it survives the process, belongs to one run, and is nobody else's to read."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rayflow.errors import StorageError
from rayflow.stores.record import MemoryRecord, SqliteRecord

Open = Callable[[], MemoryRecord | SqliteRecord]


@pytest.fixture(params=["memory", "sqlite"])
def record(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryRecord | SqliteRecord:
    made = MemoryRecord() if request.param == "memory" else SqliteRecord(tmp_path / "record", "run")
    request.addfinalizer(made.close)
    return made


def test_facts_are_set_replaced_and_removed(record: MemoryRecord | SqliteRecord) -> None:
    assert record.load() == {}
    record.write({"a": b"1", "b": b"\x00"}, [])
    record.write({"a": b"2"}, {"b"})
    assert record.load() == {"a": b"2"}


def test_it_is_there_again_for_the_same_run_and_gone_for_another(tmp_path: Path) -> None:
    for run, expected in (("one", {}), ("one", {"a": b"1"}), ("two", {})):
        record = SqliteRecord(tmp_path / "record", run)
        assert record.load() == expected
        record.write({"a": b"1"}, [])
        record.close()


def test_what_was_written_survives_kill_9(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from rayflow.stores.record import SqliteRecord\n"
        "record = SqliteRecord(Path(sys.argv[1]), 'run')\n"
        "for n in range(100): record.write({'n': str(n).encode()}, [])\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "record")], check=False)
    assert done.returncode == -9
    record = SqliteRecord(tmp_path / "record", "run")
    assert record.load() == {"n": b"99"}
    record.close()


def test_only_its_owner_may_read_it_because_configurations_hold_keys(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        record = SqliteRecord(tmp_path / "record", "run")
        record.write({"a": b"1"}, [])
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
        record.close()
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}, modes


def test_a_file_that_cannot_be_used_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        SqliteRecord(tmp_path / "nowhere" / "record", "run")
    (tmp_path / "record").write_bytes(b"no database at all, but long enough to be taken for one" * 100)
    with pytest.raises(StorageError):
        SqliteRecord(tmp_path / "record", "run")


def test_a_write_is_all_or_nothing(tmp_path: Path) -> None:
    record = SqliteRecord(tmp_path / "record", "run")
    record.write({"a": b"1"}, [])
    other = sqlite3.connect(tmp_path / "record", isolation_level=None)
    other.execute("create trigger no before delete on facts begin select raise(abort, 'no'); end")
    with pytest.raises(StorageError):
        record.write({"a": b"2", "b": b"2"}, ["a"])
    assert record.load() == {"a": b"1"}
    other.close()
    record.close()
