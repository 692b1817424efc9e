"""What was learnt, as a file: named by what it was learnt from, written whole or not at all, never believed blindly.

A file that is damaged, of another version, or about other material counts as absent: it is learnt again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import msgspec

from rayflow.models.classifier.calibration import Calibration

MAGIC = b"rayflow classifier 1\n"
DIGEST_BYTES = 16
KEPT = 8
"""Artefacts of earlier material that stay in the folder, so that going back to it costs nothing."""


class Artefact(msgspec.Struct, frozen=True):
    """A linear classifier. Row i of `rows` (little-endian float32) belongs to `features[i]`: the square of its weight
    in a message, then what it adds to each label's score before the message's length is divided out."""

    key: str
    labels: list[str]
    features: list[str]
    rows: bytes
    intercepts: list[float]
    calibration: Calibration
    independent: bool
    facts: dict[str, float]
    """About the training, for people: texts, features, seconds."""


def path_of(folder: Path, key: str) -> Path:
    return folder / f"{key}.classifier"


def load(folder: Path, key: str) -> Artefact | None:
    """The artefact for that material, or None where the folder has none that can be trusted."""
    try:
        data = path_of(folder, key).read_bytes()
    except OSError:
        return None
    head, body = data[: len(MAGIC)], data[len(MAGIC) + DIGEST_BYTES :]
    if head != MAGIC or data[len(MAGIC) : len(MAGIC) + DIGEST_BYTES] != _digest(body):
        return None
    try:
        artefact = msgspec.msgpack.decode(body, type=Artefact)
    except msgspec.DecodeError:
        return None
    return artefact if artefact.key == key else None


def save(folder: Path, artefact: Artefact) -> None:
    """Write it so that nobody ever sees a part of it, also after a power loss."""
    folder.mkdir(parents=True, exist_ok=True)
    body = msgspec.msgpack.encode(artefact)
    path = path_of(folder, artefact.key)
    temporary = path.with_suffix(f".{os.getpid()}.new")
    with temporary.open("wb") as file:
        file.write(MAGIC + _digest(body) + body)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _forget_old(folder, path)


def _digest(body: bytes) -> bytes:
    return blake2b(body, digest_size=DIGEST_BYTES).digest()


def _forget_old(folder: Path, newest: Path) -> None:
    others = sorted((file.stat().st_mtime, file) for file in folder.glob("*.classifier") if file != newest)
    for _, file in others[:-KEPT]:
        with suppress(FileNotFoundError):  # another process tidies up, too
            file.unlink()
