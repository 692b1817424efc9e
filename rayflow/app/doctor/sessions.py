"""Checks of the sessions in the state folder: whether they can be read, and under which keys they are."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

from rayflow.app.doctor.finding import Finding
from rayflow.stores.sqlite import SCHEMA

CHECK = "sessions"


def sessions(state: Path) -> Finding:
    """Of every shard. Nothing is decrypted: which key a session is under can be read, what is in it cannot."""
    keys, of_records = Counter[str](), Counter[str]()
    for file in sorted((state / "sessions").glob("*.sqlite")):
        try:
            with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as db:
                (version,) = db.execute("pragma user_version").fetchone()
                if version > SCHEMA.version:
                    found = f"{file.name} was written by a newer rayflow (schema {version})"
                    return Finding(CHECK, "fail", found, "upgrade rayflow")
                if version == SCHEMA.version:
                    # The id of the key stands behind the first byte of what it wraps.
                    counts = "select hex(substr(data_key, 2, 8)), count(*) from"
                    keys.update(dict(db.execute(f"{counts} heads group by 1").fetchall()))
                    of_records.update(dict(db.execute(f"{counts} record_owners group by 1").fetchall()))
        except sqlite3.Error as error:
            return Finding(CHECK, "fail", f"{file}: {error}", "restore it from a backup: nothing else has these turns")
    plain, bare = keys.pop("", 0), of_records.pop("", 0)
    ids, total = sorted(key.lower() for key in {*keys, *of_records}), plain + keys.total()
    if not ids:
        return Finding(CHECK, "ok", f"{total} in the state folder, not encrypted")
    found = f"{total} in the state folder, encrypted with {' and '.join(f'key {key}' for key in ids)}"
    if plain or bare:
        what = f"{plain} not at all" if plain else f"the records of {bare} owners not at all"
        return Finding(CHECK, "warn", f"{found}, {what}", "encrypt them: rayflow sessions rekey")
    if len(ids) > 1:
        return Finding(CHECK, "warn", found, "bring all to the present key: rayflow sessions rekey")
    return Finding(CHECK, "ok", found)
