"""Frames: whatever way bytes arrive, the same frames come out; and what is no frame is refused."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.chat import Message, Usage
from rayflow.cluster.fabric.frames import (
    MAX_FRAME_BYTES,
    Ask,
    Cancel,
    Close,
    Credit,
    End,
    Frame,
    Hello,
    Item,
    Open,
    Proof,
    Reference,
    Reply,
    Splitter,
    Taken,
    Tell,
    decode_message,
    encode,
    encode_message,
)
from rayflow.context import Context
from rayflow.errors import ErrorInfo, FrameInvalid
from rayflow.messages import AppendTurns, Failure, Ping, RunRequest, RunResult, Token, TokenStream

TRACED = Context("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "acme", -3)
TOKEN = Token("run_1", 7, "a", ["héllo", " 🎉"])
FRAMES: list[Frame] = [
    Hello(2, "unix:/x", "ab", "shelf"),
    Proof("cd"),
    Tell("client/0", TOKEN, 4, TRACED),
    Ask(3, "router/0", RunRequest("r", "s", [Message("user", "x" * 3000)]), 2.5, 1, TRACED),
    Ask(4, "router/0", Reference(b"\x00\xff")),
    Reply(3, RunResult("r", "s", "", "stop", Usage(1, 2), "m", [])),
    Reply(4, Reference(b"there")),
    Cancel(1 << 40),
    Open(9, "client/0", TokenStream("run_1", "a"), 1.5, 0, TRACED),
    Item(9, TOKEN),
    End(9),
    Credit(9, 128, 70_000),
    Close(9, ErrorInfo("cancelled", "enough", {"n": 1})),
    Taken(b"there"),
]


def test_every_kind_of_frame_is_among_those_tried() -> None:
    assert {type(frame) for frame in FRAMES} == set(Frame.__args__)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_comes_back_as_it_was(frame: Frame) -> None:
    splitter = Splitter()
    assert list(splitter.feed(encode(frame))) == [frame]
    assert splitter.size == len(encode(frame))


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
    frame = FRAMES[2]
    assert [each for byte in encode(frame) for each in splitter.feed(bytes([byte]))] == [frame]


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
    for frame in splitter.feed(encode(FRAMES[0]) + encode(FRAMES[3])):
        found.append(frame)
        splitter.limit = MAX_FRAME_BYTES
    assert found == [FRAMES[0], FRAMES[3]]


def test_a_long_frame_is_not_looked_at_before_it_is_whole() -> None:
    whole = encode(Tell("x", Token("r", 1, "a", ["x" * 1_000_000])))
    splitter = Splitter()
    pieces = [whole[at : at + 1000] for at in range(0, len(whole), 1000)]
    for piece in pieces[:-1]:
        assert list(splitter.feed(piece)) == []
        assert splitter._parts[-1] is piece, "kept as it came, not copied again with every read"
    assert len(list(splitter.feed(pieces[-1]))) == 1


@pytest.mark.parametrize(
    "body",
    [
        [2, "x", {"type": "Evil"}],
        [3, 1, "x", {"type": "Ping", "x": 1}, "soon"],
        [7, 1, {"type": "Reference", "name": b"x"}],
        [9, 1, -1, 5],
        [9, 1, 5, -1],
        [99, 1],
        [-1],
        {"kind": 2},
        [5, "0"],
        7,
        [],
    ],
)
def test_what_is_no_known_message_is_refused(body: object) -> None:
    data = msgspec.msgpack.encode(body)
    with pytest.raises(FrameInvalid, match="malformed"):
        list(Splitter().feed(struct.pack(">I", len(data)) + data))


def test_nesting_without_end_is_refused() -> None:
    for deep in (b"\x91" * 50_000 + b"\xc0", b"\x94\x02\xa0" + b"\x91" * 50_000 + b"\xc0"):
        with pytest.raises(FrameInvalid):
            list(Splitter().feed(struct.pack(">I", len(deep)) + deep))


def test_what_no_peer_would_take_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayflow.cluster.fabric.frames.MAX_FRAME_BYTES", 100)
    with pytest.raises(FrameInvalid, match=r"AppendTurns of \d+ bytes is over the limit"):
        encode(Ask(1, "x", AppendTurns("t", "s", [Message("user", "x" * 200)])))


@pytest.mark.parametrize("details", [{"n": 1 << 70}, {"o": object()}, {"t": "\ud800"}])
def test_what_cannot_be_encoded_is_a_frame_error(details: dict[str, object]) -> None:
    with pytest.raises(FrameInvalid, match="a Failure cannot be sent"):
        encode(Reply(1, Failure(ErrorInfo("conflict", "x", details))))
    with pytest.raises(FrameInvalid, match="a Close cannot be sent"):
        encode(Close(1, ErrorInfo("conflict", "x", details)))


def test_a_message_alone_comes_back_as_it_was_and_nothing_else_does() -> None:
    assert decode_message(encode_message(TOKEN)) == TOKEN
    for data in (b"", b"\xc1", encode_message(Reference(b"x")), b"\x91" * 50_000):
        with pytest.raises(FrameInvalid, match="malformed message"):
            decode_message(data)


def test_frames_are_small() -> None:
    assert len(encode(Ask(1, "router/0", Ping(), 5.0))) < 50
    assert len(encode(Item(1, TOKEN))) - len(encode_message(TOKEN)) <= 7, "a number and a message, no address"
