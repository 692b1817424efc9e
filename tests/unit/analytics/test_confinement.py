"""The walls behind the check of the statement, each without the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from log_samples import NOON_US

from rayflow.analytics.analyst.confinement import find_offers
from rayflow.analytics.analyst.sealed import SealedLog, open_database
from rayflow.analytics.segments import SegmentWriter
from rayflow.analytics.snapshot import take_snapshot
from rayflow.events import Event

ATTEMPTS = """
import json, os, resource, socket, subprocess, sys
from pathlib import Path
from rayflow.analytics.analyst import confinement
root, secret = map(Path, sys.argv[1:])
left = confinement.leave_network()
confinement.limit_files()
confinement.shut_in([root])
confinement.drop_privileges()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
attempts = {
    "read beneath": (root / "date=x" / "segment").read_text,
    "read elsewhere": secret.read_text,
    "read through ..": (root / ".." / secret.name).read_text,
    "read own environment": Path("/proc/self/environ").read_text,
    "read environment of the parent": Path(f"/proc/{os.getppid()}/environ").read_text,
    "write beneath": lambda: (root / "date=x" / "segment").write_text("x"),
    "make beneath": lambda: (root / "new").write_text("x"),
    "truncate": lambda: os.truncate(root / "date=x" / "segment", 0),
    "remove": (root / "date=x" / "segment").unlink,
    "rename": lambda: (root / "date=x").rename(root / "date=y"),
    "list elsewhere": lambda: list(secret.parent.iterdir()),
    "tcp": lambda: socket.create_connection(("127.0.0.1", 9), 1),
    "udp": lambda: udp.sendto(b"x", ("127.0.0.1", 9)),
    "signal": lambda: os.kill(os.getppid(), 0),
    "execute": lambda: os.execv("/bin/true", ["true"]),
    "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY)),
}
done = {}
for name, attempt in attempts.items():
    try:
        attempt()
        done[name] = "done"
    except (OSError, ValueError) as problem:
        done[name] = type(problem).__name__
os.write(1, json.dumps([left, done]).encode())
"""


@pytest.mark.skipif(not find_offers().enough, reason="this kernel has no sandbox to test")
def test_a_process_that_is_shut_in_can_read_the_log_and_nothing_else(tmp_path: Path) -> None:
    root, secret = tmp_path / "events", tmp_path / "secret"
    (root / "date=x").mkdir(parents=True)
    (root / "date=x" / "segment").write_text("rows")
    secret.write_text("word")
    command = [sys.executable, "-c", ATTEMPTS, str(root), str(secret)]
    out = subprocess.run(command, stdout=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"}, check=True).stdout
    left_network, done = json.loads(out)
    allowed = {"read beneath"} if left_network else {"read beneath", "udp"}
    assert {name for name, outcome in done.items() if outcome == "done"} == allowed
    assert (root / "date=x" / "segment").read_text() == "rows"


@pytest.fixture
def sealed(root: Path, writer: SegmentWriter) -> duckdb.DuckDBPyConnection:
    """The database of a tenant, without the check and the kernel around it."""
    writer.write([Event("run.finished", NOON_US + n, run_id=f"r{n}", tenant=t) for n, t in enumerate(("a", "b", ""))])
    database = open_database(1 << 28)
    snapshot = take_snapshot(root)
    segments = [str(segment.path.relative_to(root)) for segment in snapshot.segments]
    SealedLog(database, root, segments, snapshot.open_rows(), "a")
    return database


@pytest.mark.parametrize("name", ["events", "runs", "segments", "main.events", "query('FROM segments')"])
def test_under_no_name_are_there_rows_of_others(sealed: duckdb.DuckDBPyConnection, name: str) -> None:
    assert sealed.sql(f"SELECT DISTINCT tenant FROM {name}").fetchall() == [("a",)]


@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_text('{file}')",
        "FROM '{file}'",
        "FROM glob('{file}')",
        "COPY (SELECT 1) TO '{file}'",
        "COPY (SELECT 1) TO '{file}' (FORMAT parquet, USE_TMP_FILE false)",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{file}'",
        "ATTACH '{file}'",
        "EXPORT DATABASE '{file}'",
        "LOAD '{file}'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET memory_limit = '1TB'",
    ],
)
def test_the_database_opens_no_file_and_keeps_its_settings(
    sealed: duckdb.DuckDBPyConnection, tmp_path: Path, sql: str
) -> None:
    file = tmp_path / "secret.csv"
    file.write_text("word\n")
    with pytest.raises(duckdb.Error):
        sealed.execute(sql.format(file=file)).fetchall()
    assert file.read_text() == "word\n"
