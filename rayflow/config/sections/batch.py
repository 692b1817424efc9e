"""Batch jobs that are handed in over HTTP, and how large the rows of any job may be (docs/batch.md)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from rayflow.config.sections.base import Section


class BatchConfig(Section):
    """Batch jobs."""

    concurrency: Annotated[int, Field(ge=1, le=4096)] = 32
    """Rows in flight of a job that was handed in over HTTP and names no number, and the most that one may name."""
    max_feeders: Annotated[int, Field(ge=1, le=64)] = 4
    """The most feeders that a job handed in over HTTP may have; each is a process of its own."""
    jobs: Annotated[int, Field(ge=1, le=64)] = 2
    """Jobs that were handed in over HTTP run so many at a time; the others wait."""
    max_lines: Annotated[int, Field(ge=1, le=10_000_000)] = 50_000
    """Lines of a file for `/v1/batches`."""
    max_file_bytes: Annotated[int, Field(ge=1024, le=1 << 40)] = 200 << 20
    """Largest file that `/v1/files` takes."""
    max_stored_bytes: Annotated[int, Field(ge=1024)] = 10 << 30
    """What all files of one tenant may take together."""
    input_roots: list[str] = []
    """Folders of the server (or addresses of a file system) that a job handed in over HTTP may read. Empty: none."""
    callback_secret: SecretStr | None = None
    """Signs what callback URLs are told (HMAC-SHA256); write it as `"${NAME}"`."""
    idle_s: Annotated[float, Field(ge=0, le=3600)] = 30.0
    """The process that runs these jobs ends when there has been none for so long."""
    max_row_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 8 << 20
    """Largest row of an input; a larger one is an error row."""
    max_rows: Annotated[int, Field(ge=1)] = 10_000_000
    """Rows of one input file; a file with more is refused."""
    parquet_memory_bytes: Annotated[int, Field(ge=64 << 20)] = 1 << 30
    """What the process that reads a Parquet file may take; a row group that needs more gives error rows."""
