"""What is sealed opens with its key and in its place, and nowhere else."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.errors import StorageError
from rayflow.stores.sealing import NONCE_BYTES, Log, Sealer

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


@pytest.fixture
def sealer() -> Sealer:
    return Sealer([KEY])


def log(sealer: Sealer, session: str = "s", tenant: str = "t") -> Log:
    return Log(tenant, session, sealer.new_key(tenant, session))


@given(st.binary(max_size=300))
def test_what_was_sealed_opens_again_and_cannot_be_read_before(plain: bytes) -> None:
    sealer = Sealer([KEY])
    mine = log(sealer)
    box = sealer.seal(mine, 3, plain)
    assert Sealer([KEY]).open(mine, 3, box) == plain
    assert len(plain) < 8 or plain not in box
    assert sealer.seal(mine, 3, plain) != box


@given(st.data())
def test_no_byte_of_a_box_can_be_changed(data: st.DataObject) -> None:
    sealer = Sealer([KEY])
    mine = log(sealer)
    box = bytearray(sealer.seal(mine, 1, b"transfer 10 to ada"))
    at = data.draw(st.integers(0, len(box) - 1))
    box[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StorageError, match="turn 1 of session s is not what was written there"):
        sealer.open(mine, 1, bytes(box))


@pytest.mark.parametrize("box", [b"", b"\x01", b"\x01" * 20, b'{"role":"user","content":"never encrypted"}'])
def test_what_never_was_a_box_is_refused(sealer: Sealer, box: bytes) -> None:
    with pytest.raises(StorageError, match="not what was written"):
        sealer.open(log(sealer), 1, box)


def test_a_box_opens_neither_as_another_turn_nor_in_another_session_nor_for_another_tenant(sealer: Sealer) -> None:
    mine = log(sealer)
    box = sealer.seal(mine, 2, b"x")
    for place, seq in (
        (mine, 1),
        (log(sealer), 2),
        (log(sealer, "other"), 2),
        (mine._replace(session_id="other"), 2),
        (mine._replace(tenant="other"), 2),
        (mine._replace(tenant="t\0s", session_id=""), 2),
    ):
        with pytest.raises(StorageError, match="not what was written"):
            sealer.open(place, seq, box)
    assert sealer.open(mine, 2, box) == b"x"


@pytest.mark.parametrize("cut", [1, 20, 40])
def test_a_data_key_that_was_changed_or_cut_is_refused(sealer: Sealer, cut: int) -> None:
    mine = log(sealer)
    box = sealer.seal(mine, 1, b"x")
    flipped = mine.key[:-1] + bytes([mine.key[-1] ^ 1])
    for key in (flipped, mine.key[:-cut], mine.key[:10]):
        with pytest.raises(StorageError, match="the data key of session s is not what was written"):
            sealer.open(mine._replace(key=key), 1, box)


def test_a_wrong_key_says_which_one_is_missing_and_never_what_any_is(sealer: Sealer) -> None:
    mine = log(sealer)
    box = sealer.seal(mine, 1, b"x")
    with pytest.raises(StorageError, match=r"key \w{16} encrypts session s, and .* has \w{16}") as caught:
        Sealer([OTHER]).open(mine, 1, box)
    message = caught.value.message
    assert "nothing was changed" in message
    assert caught.value.details == {"session_id": "s", "key": mine.key[1:9].hex()}
    assert not any(key[i : i + 4].hex() in message for key in (KEY, OTHER) for i in range(29))


def test_a_key_is_changed_by_wrapping_the_data_key_anew(sealer: Sealer) -> None:
    mine = log(sealer)
    box = sealer.seal(mine, 1, b"x")
    both = Sealer([OTHER, KEY])
    assert both.stale(mine.key)
    assert both.open(mine, 1, box) == b"x"
    anew = mine._replace(key=both.rewrap(mine))
    assert not both.stale(anew.key)
    assert Sealer([OTHER]).open(anew, 1, box) == b"x"
    with pytest.raises(StorageError):
        sealer.open(anew, 1, box)


def test_more_sessions_than_are_remembered_open_all_the_same(sealer: Sealer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayflow.stores.sealing.CACHED_KEYS", 3)
    logs = [log(sealer, f"s{i}") for i in range(10)]
    boxes = [sealer.seal(each, 1, each.session_id.encode()) for each in logs]
    assert [sealer.open(each, 1, box) for each, box in zip(logs, boxes, strict=True)] == [
        each.session_id.encode() for each in logs
    ]


FORKED = """
import os, sys
from rayflow.stores.sealing import Log, Sealer
sealer = Sealer([bytes(32)])
log = Log("t", "s", sealer.new_key("t", "s"))
child = os.fork()
sys.stdout.buffer.write(b"".join(sealer.seal(log, 1, b"x")[1:13] for _ in range(1000)))
sys.stdout.buffer.flush()
if child:
    os.waitpid(child, 0)
"""


def test_no_two_boxes_have_the_same_nonce_not_even_in_a_forked_process() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, check=True, timeout=60)
    nonces = {done.stdout[i : i + NONCE_BYTES] for i in range(0, len(done.stdout), NONCE_BYTES)}
    assert (len(done.stdout), len(nonces)) == (2000 * NONCE_BYTES, 2000)
