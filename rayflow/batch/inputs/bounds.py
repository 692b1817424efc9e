"""How large the rows of an input may be. Whoever wrote the file should not decide how much memory reading it takes."""

from __future__ import annotations

import msgspec


class Bounds(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is beyond `row_bytes` or `depth` is an error row; a file beyond the others is refused.

    `row_bytes`: of one row of text, and of one row of a Parquet file when it is decoded. `depth`: nesting of JSON.
    `rows`: of one file. `memory_bytes`: what the process that reads Parquet may take on top of its code.
    """

    row_bytes: int = 8 * 2**20
    rows: int = 10_000_000
    columns: int = 2000
    depth: int = 64
    memory_bytes: int = 2**30
