"""Writes the results of a job to a file, in a process that takes with it what reading Parquet leaves in memory.

python -m rayflow.batch.export_process PARENT_PID jsonl|parquet JOB_FOLDER FILE
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

from rayflow.app.children import end_with_parent
from rayflow.batch.directory import JobDirectory
from rayflow.batch.export import Format, export


def main() -> None:
    parent, form, folder, file = sys.argv[1:]
    end_with_parent(int(parent))
    with Path(file).open("wb") as out:
        export(JobDirectory(Path(folder)), cast(Format, form), out)


if __name__ == "__main__":
    main()
