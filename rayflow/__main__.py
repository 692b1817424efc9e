"""`python -m rayflow`."""

from rayflow.cli import main

main()
