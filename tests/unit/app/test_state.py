"""The state folder belongs to one system at a time, and a killed one leaves no claim."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayflow.app import state as state_module
from rayflow.app.state import RunFile, owned, read_run_file, run_folder, write_run_file
from rayflow.errors import FabricError, StorageError, Unavailable


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(state_module, "GLANCE_S", 0.0)
    monkeypatch.setattr(state_module, "DYING_S", 0.0)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def run_file(pid: int = 0, **more: str) -> RunFile:
    return RunFile(pid or os.getpid(), "/run", "team", **more)


def test_who_owns_the_folder_has_a_private_run_folder_with_a_secret(state: Path) -> None:
    with owned(state) as mine:
        assert mine.run_dir.stat().st_mode & 0o777 == 0o700
        assert mine.run_dir.parent.stat().st_mode & 0o777 == 0o700
        assert (mine.run_dir / "secret").stat().st_mode & 0o777 == 0o600
        first = (mine.run_dir / "secret").read_bytes()
        assert len(first) == 32
    assert not mine.run_dir.exists()
    with owned(state) as mine:
        assert (mine.run_dir / "secret").read_bytes() != first


def test_a_second_system_is_refused_and_told_who_owns_it(state: Path) -> None:
    with owned(state):
        with pytest.raises(Unavailable, match="another process"), owned(state):
            pass
        write_run_file(state, run_file(url="http://127.0.0.1:8080"))
        with pytest.raises(Unavailable, match=rf"process {os.getpid()} \(http://127.0.0.1:8080\)"), owned(state):
            pass
        assert run_folder(state).exists(), "the refused one took nothing away"
    with owned(state):
        pass


def test_two_folders_are_two_systems(state: Path, tmp_path: Path) -> None:
    with owned(state) as one, owned(tmp_path / "other") as two:
        assert one.run_dir != two.run_dir


def test_one_folder_by_two_names_is_one_system(state: Path, tmp_path: Path) -> None:
    with owned(state):
        (tmp_path / "link").symlink_to(state)
        assert run_folder(tmp_path / "link") == run_folder(state)
        with pytest.raises(Unavailable), owned(tmp_path / "link"):
            pass


def test_the_run_file_says_who_serves_as_long_as_they_do(state: Path) -> None:
    assert read_run_file(state) is None
    with owned(state):
        assert read_run_file(state) is None
        write_run_file(state, run_file())
        assert read_run_file(state) == run_file()
    assert read_run_file(state) is None
    assert not (state / "run.json").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pid": 1}', '{"pid": 1, "new_key": 2}'])
def test_a_run_file_that_makes_no_sense_is_none(state: Path, text: str) -> None:
    with owned(state):
        (state / "run.json").write_text(text)
        assert read_run_file(state) is None


OWNING = """
import os, sys, time
from pathlib import Path
from rayflow.app.state import RunFile, owned, write_run_file

with owned(Path(sys.argv[1])) as mine:
    write_run_file(Path(sys.argv[1]), RunFile(os.getpid(), str(mine.run_dir), "team"))
    print("owned", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other_process(state: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Owns the state folder until it is killed."""
    env = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-c", OWNING, str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "owned\n"
        yield process
        process.kill()


def test_another_process_that_owns_the_folder_is_seen(state: Path, other_process: subprocess.Popen[str]) -> None:
    found = read_run_file(state)
    assert found is not None
    assert found.pid == other_process.pid
    with pytest.raises(Unavailable, match=f"process {other_process.pid}"), owned(state):
        pass


def test_a_killed_system_leaves_a_run_file_that_does_not_count(
    state: Path, other_process: subprocess.Popen[str]
) -> None:
    other_process.send_signal(signal.SIGKILL)
    other_process.wait(10)
    assert (state / "run.json").exists()
    assert read_run_file(state) is None
    left = run_folder(state) / "left.sock"
    left.touch()
    with owned(state):
        assert not left.exists()


def test_a_state_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="choose another one with --state"), owned(tmp_path / "file" / "state"):
        pass


def test_a_run_folder_of_somebody_else_is_not_used(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(FabricError, match="another user"), owned(state):
        pass
    monkeypatch.undo()
