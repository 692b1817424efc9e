"""What is installed is the whole package."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hatchling.build import build_wheel

ROOT = Path(__file__).parents[3]


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with zipfile.ZipFile(tmp_path / build_wheel(str(tmp_path))) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    files = (file for file in (ROOT / "rayflow").rglob("*") if file.is_file() and file.suffix != ".pyc")
    assert held == {str(file.relative_to(ROOT)) for file in files}
    assert {"rayflow/py.typed", "rayflow/config/starter.yaml", "rayflow/analytics/sql/views.sql"} <= held
