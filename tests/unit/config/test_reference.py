from __future__ import annotations

from pathlib import Path

import pytest

from rayflow.config.reference import reference, update

DOCUMENT = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_the_document_holds_the_table_of_the_code() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert update(document) == document, "paste the output of `rayflow config reference` between the markers"


def test_a_row_says_type_default_meaning_and_variable() -> None:
    rows = reference().splitlines()
    assert (
        "| `processing.routers` | a whole number between 1 and 64 | `1` "
        "| Router actors; a session always belongs to one of them. | `RAYFLOW_PROCESSING__ROUTERS` |"
    ) in rows
    assert any(row.startswith("| `models.N.api_key` | text, secret | unset |") for row in rows)
    assert any(row.startswith("| `agents.N.name` | a name | required |") for row in rows)


def test_a_document_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="markers"):
        update("# Configuration\n")
