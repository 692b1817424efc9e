"""The decoder gives the same events however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayflow.models.sse import SSEDecoder, StreamTooLarge

STREAM = (
    'data: {"a": 1}\n\n: comment\r\n\r\nevent: x\ndata: grün\ndata: 🌱\n\nid: 7\n\ndata:tight\r\rdata: [DONE]\r\n\r\n'
).encode()
EVENTS = [b'{"a": 1}', "grün\n🌱".encode(), b"tight", b"[DONE]"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_events_do_not_depend_on_where_the_reads_are_cut(cuts: list[int]) -> None:
    decoder = SSEDecoder()
    ends = [*sorted(cuts), len(STREAM)]
    reads = [STREAM[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert [event for read in reads for event in decoder.feed(read)] == EVENTS


def test_an_unfinished_event_is_kept_back() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: half\n") == []
    assert decoder.feed(b"\n") == [b"half"]


def test_a_byte_order_mark_is_skipped() -> None:
    assert SSEDecoder().feed(b"\xef\xbb\xbfdata: x\n\n") == [b"x"]


def test_fields_that_only_begin_like_data_are_ignored() -> None:
    assert SSEDecoder().feed(b"database: x\ndata\n\n") == [b""]


@pytest.mark.parametrize(
    "read", [b"data: " + b"x" * 20, b"data: " + b"x" * 20 + b"\n\n", b"data: 1234567\ndata: 12345\n"]
)
def test_an_event_over_the_limit_is_refused_before_it_is_complete(read: bytes) -> None:
    with pytest.raises(StreamTooLarge, match="one event is larger than 10 bytes"):
        SSEDecoder(max_event_bytes=10).feed(read)


def test_a_stream_over_the_limit_is_refused_however_small_its_events() -> None:
    decoder = SSEDecoder(max_stream_bytes=20)
    assert decoder.feed(b"data: a\n\n") == [b"a"]
    assert decoder.feed(b"data: b\n\n") == [b"b"]
    with pytest.raises(StreamTooLarge, match="the stream is larger"):
        decoder.feed(b"data: c\n\n")
