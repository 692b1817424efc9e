"""`python -m tests.faults [--fault NAME ...] [--kills N] [--seed S] [--rate R] [--json] [--list]`."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # As under pytest, whose `pythonpath` is the folder `tests`.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from faults.command import main

    sys.exit(main())
