from __future__ import annotations

import errno
from pathlib import Path

import pytest

from rayflow.app.durable import replacing
from rayflow.errors import StorageError, StorageFull


def test_a_file_is_replaced_when_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "new"


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, StorageFull), (errno.EIO, StorageError)])
def test_a_disk_error_is_named_and_leaves_the_old_file_alone(
    tmp_path: Path, number: int, kind: type[StorageError]
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(StorageError, match="file") as caught, replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError(number, "as told")
    assert type(caught.value) is kind
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"
