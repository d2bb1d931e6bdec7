from __future__ import annotations

import msgspec
import pytest

from doorward.chat.envelope import Envelope
from doorward.chat.eventlog import PAGE_BYTES
from doorward.chat.lane import TAIL, TAIL_BYTES, Lane


def envelopes(first: int, last: int, size: int = 10) -> list[Envelope]:
    return [Envelope("t", "e", seq, seq, "r", 1, msgspec.Raw(b"x" * size)) for seq in range(first, last + 1)]


def numbers(page: list[Envelope] | None) -> list[int] | None:
    return None if page is None else [envelope.seq for envelope in page]


@pytest.mark.parametrize(("after", "page"), [(4, None), (5, [6, 7, 8]), (7, [8]), (8, []), (9, None)])
def test_says_what_follows_where_it_has_all_of_it(after: int, page: list[int] | None) -> None:
    lane = Lane()
    lane.extend(envelopes(6, 8))
    assert numbers(lane.after(after)) == page


def test_an_empty_one_says_nothing() -> None:
    lane = Lane()
    assert lane.after(0) is None
    lane.extend(envelopes(1, 3))
    lane.clear()
    assert (lane.after(3), lane.bytes) == (None, 0)


def test_keeps_a_number_of_events() -> None:
    lane = Lane()
    lane.extend(envelopes(1, 3 * TAIL))
    assert [lane.tail[0].seq, lane.tail[-1].seq] == [2 * TAIL + 1, 3 * TAIL]


def test_keeps_so_many_bytes_but_always_the_last_event() -> None:
    lane = Lane()
    lane.extend(envelopes(1, 50, TAIL_BYTES // 10))
    assert lane.bytes == sum(len(envelope.event) for envelope in lane.tail) <= TAIL_BYTES
    assert lane.tail[-1].seq == 50
    lane.extend(envelopes(51, 51, 2 * TAIL_BYTES))
    assert numbers(lane.after(50)) == [51]
    assert len(lane.tail) == 1


def test_gives_a_page_at_a_time() -> None:
    lane = Lane()
    lane.extend(envelopes(1, 8, PAGE_BYTES // 4))
    assert numbers(lane.after(0)) == [1, 2, 3, 4]
    assert numbers(lane.after(4)) == [5, 6, 7, 8]
