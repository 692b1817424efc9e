"""Frames: whatever way bytes arrive, the same frames come out; and what is no frame is refused."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.chat import Message, Usage
from rayflow.cluster.fabric.frames import MAX_FRAME_BYTES, Frame, Kind, Splitter, encode
from rayflow.errors import ErrorInfo, FrameInvalid
from rayflow.messages import AppendTurns, Failure, Ping, RunRequest, RunResult, Token

FRAMES = [
    Frame(Kind.HELLO, text=("1", "unix:/x", "ab")),
    Frame(Kind.TELL, 0, "client/0", Token("run_1", 7, "a", ["héllo", " 🎉"])),  # type: ignore[arg-type]
    Frame(Kind.ASK, 3, "router/0", RunRequest("r", "s", [Message("user", "x" * 3000)]), 2.5),  # type: ignore[arg-type]
    Frame(Kind.REPLY, 3, body=RunResult("r", "s", "", "stop", Usage(1, 2), "m", [])),  # type: ignore[arg-type]
    Frame(Kind.CANCEL, 1 << 40),
]


@pytest.mark.parametrize("frame", FRAMES)
def test_a_frame_comes_back_as_it_was(frame: Frame) -> None:
    assert list(Splitter().feed(encode(frame))) == [frame]


@given(st.lists(st.sampled_from(FRAMES), max_size=6), st.lists(st.integers(1, 2000)))
def test_frames_are_the_same_however_the_bytes_are_cut(frames: list[Frame], cuts: list[int]) -> None:
    data = b"".join(map(encode, frames))
    splitter = Splitter()
    found: list[Frame] = []
    for size in cuts:
        found += splitter.feed(data[:size])
        data = data[size:]
    found += splitter.feed(data)
    assert found == frames


def test_byte_by_byte_works_too() -> None:
    splitter = Splitter()
    assert [frame for i in encode(FRAMES[1]) for frame in splitter.feed(bytes([i]))] == [FRAMES[1]]


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_refused_and_nothing_else(data: bytes) -> None:
    splitter = Splitter(limit=1000)
    try:
        found = list(splitter.feed(struct.pack(">I", len(data)) + data))
    except FrameInvalid:
        return
    assert all(isinstance(frame, Frame) for frame in found)


@given(st.sampled_from(FRAMES), st.data())
def test_a_damaged_frame_is_a_frame_or_refused_and_nothing_else(frame: Frame, data: st.DataObject) -> None:
    damaged = bytearray(encode(frame))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(4, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = list(Splitter().feed(bytes(damaged)))
    except FrameInvalid:
        return
    assert all(isinstance(each, Frame) for each in found)


@given(st.sampled_from(FRAMES), st.data())
def test_a_truncated_frame_is_waited_for(frame: Frame, data: st.DataObject) -> None:
    whole = encode(frame)
    cut = data.draw(st.integers(0, len(whole) - 1))
    splitter = Splitter()
    assert list(splitter.feed(whole[:cut])) == []
    assert list(splitter.feed(whole[cut:])) == [frame]


def test_a_length_over_the_limit_is_refused_before_the_bytes_come() -> None:
    with pytest.raises(FrameInvalid, match="over the limit of 10"):
        list(Splitter(limit=10).feed(struct.pack(">I", 11)))
    with pytest.raises(FrameInvalid, match="over the limit"):
        list(Splitter().feed(b"\xff\xff\xff\xff"))


def test_the_limit_may_rise_between_two_frames_of_one_read() -> None:
    """The handshake's last frame and the peer's first message can arrive together."""
    splitter = Splitter(limit=200)
    found = []
    for frame in splitter.feed(encode(FRAMES[0]) + encode(FRAMES[2])):
        found.append(frame)
        splitter.limit = MAX_FRAME_BYTES
    assert found == FRAMES[:1] + FRAMES[2:3]


@pytest.mark.parametrize(
    "body", [[2, 0, "x", {"type": "Evil"}], [2, 0, "x", {"type": "Ping", "x": 1}, "soon"], {"kind": 2}, [2, "0"], 7, []]
)
def test_what_is_no_known_message_is_refused(body: object) -> None:
    data = msgspec.msgpack.encode(body)
    with pytest.raises(FrameInvalid, match="malformed"):
        list(Splitter().feed(struct.pack(">I", len(data)) + data))


def test_nesting_without_end_is_refused() -> None:
    for deep in (b"\x91" * 50_000 + b"\xc0", b"\x94\x01\x00\xa0" + b"\x91" * 50_000 + b"\xc0"):
        with pytest.raises(FrameInvalid):
            list(Splitter().feed(struct.pack(">I", len(deep)) + deep))


def test_what_no_peer_would_take_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayflow.cluster.fabric.frames.MAX_FRAME_BYTES", 100)
    with pytest.raises(FrameInvalid, match=r"AppendTurns of \d+ bytes is over the limit"):
        encode(Frame(Kind.ASK, 1, "x", AppendTurns("t", "s", [Message("user", "x" * 200)])))  # type: ignore[arg-type]


@pytest.mark.parametrize("details", [{"n": 1 << 70}, {"o": object()}, {"t": "\ud800"}])
def test_what_cannot_be_encoded_is_a_frame_error(details: dict[str, object]) -> None:
    failure = Failure(ErrorInfo("conflict", "x", details))
    with pytest.raises(FrameInvalid, match="a Failure cannot be sent"):
        encode(Frame(Kind.REPLY, 1, body=failure))  # type: ignore[arg-type]


def test_an_empty_message_is_small() -> None:
    assert len(encode(Frame(Kind.ASK, 1, "router/0", Ping(), 5.0))) < 50  # type: ignore[arg-type]
