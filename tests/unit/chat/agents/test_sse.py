from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doorward.chat.agents.sse import EventStream, TooLong

STREAM = (
    b": hello\n\ndata: one\n\nevent: x\r\ndata:two\r\ndata: more\r\n\r\nid: 7\rdata: three\r\r\nretry: 5\n\ndata\n\n"
)
EVENTS = [b"one", b"two\nmore", b"three"]


def test_fields_lines_and_comments() -> None:
    assert EventStream(100).feed(STREAM) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_wherever_it_is_cut(cuts: list[int]) -> None:
    stream = EventStream(100)
    places = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(places)]
    assert [event for piece in pieces for event in stream.feed(piece)] == EVENTS


def test_an_event_that_has_not_ended_is_not_given() -> None:
    stream = EventStream(100)
    assert stream.feed(b"data: half") == []
    assert stream.feed(b" and half\n") == []
    assert stream.feed(b"\n") == [b"half and half"]


@pytest.mark.parametrize("more", [b"x" * 11, b"data: " + b"x" * 11 + b"\n", b"data: 123456\ndata: 123456\n"])
def test_no_event_is_longer_than_the_bound(more: bytes) -> None:
    stream = EventStream(10)
    stream.feed(b"data: 1234567890\n\n")
    with pytest.raises(TooLong):
        stream.feed(more)
