"""Envelopes and their places."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doorward.client.wire import Cursor, Envelope, Position, Step, read_envelope, read_message


def envelope(seq: int, *, seq_from: int | None = None, epoch: str = "e") -> Envelope:
    first = seq if seq_from is None else seq_from
    return Envelope(thread_id="t", epoch=epoch, seq_from=first, seq=seq, event={"type": "X"})


def snapshot(after_seq: int | None, *, epoch: str = "e") -> Envelope:
    return Envelope(
        thread_id="t", epoch=epoch, synthetic=True, after_seq=after_seq, event={"type": "MESSAGES_SNAPSHOT"}
    )


def test_an_envelope_is_read() -> None:
    content = {"v": 1, "thread_id": "t", "epoch": "e", "seq_from": 3, "seq": 5, "ts": 9, "event": {"type": "RUN_ERROR"}}
    read = read_envelope({**content, "something": "new"})
    assert read is not None
    assert (read.kind, read.ends_run, read.is_snapshot, read.position) == ("RUN_ERROR", True, False, Position("e", 5))


@pytest.mark.parametrize(
    ("event", "retryable"),
    [
        ({"type": "RUN_ERROR", "metadata": {"retryable": True}}, True),
        ({"type": "RUN_ERROR", "metadata": {"retryable": "true"}}, False),
        ({"type": "RUN_ERROR", "metadata": None}, False),
        ({"type": "CUSTOM", "metadata": {"retryable": True}}, False),
    ],
)
def test_a_failed_run_says_whether_to_ask_again(event: dict[str, Any], retryable: bool) -> None:
    assert Envelope(thread_id="t", epoch="e", seq_from=1, seq=1, event=event).is_retryable is retryable


GOOD: dict[str, Any] = {"v": 1, "thread_id": "t", "epoch": "e", "seq_from": 3, "seq": 5, "event": {}}


@pytest.mark.parametrize(
    "wrong", [{"v": 2}, {"thread_id": 7}, {"seq": "5"}, {"seq": None}, {"seq_from": None}, {"event": []}]
)
def test_what_is_no_envelope_of_ours_is_passed_over(wrong: dict[str, Any]) -> None:
    assert read_envelope(GOOD) is not None
    assert read_envelope(GOOD | wrong) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '"text"', "\ud800", "[" * 100_000])
def test_what_is_no_message_is_none(text: str) -> None:
    assert read_message(text) is None


def test_a_cursor_takes_what_follows() -> None:
    cursor = Cursor("e", 4)
    assert [cursor.take(envelope(5)), cursor.take(envelope(8, seq_from=6))] == [Step.APPLY, Step.APPLY]
    assert cursor.position == Position("e", 8)


def test_a_cursor_without_a_place_begins_anywhere() -> None:
    cursor = Cursor()
    assert cursor.position is None
    assert cursor.take(envelope(77)) is Step.APPLY
    assert cursor.position == Position("e", 77)


@pytest.mark.parametrize(
    ("said", "step"),
    [
        (envelope(4), Step.IGNORE),
        (envelope(2), Step.IGNORE),
        (envelope(6), Step.GAP),
        (envelope(6, seq_from=4), Step.GAP),
        (envelope(5, epoch="other"), Step.GAP),
        (envelope(1, epoch="other"), Step.GAP),
    ],
)
def test_a_cursor_stays_where_something_is_wrong(said: Envelope, step: Step) -> None:
    cursor = Cursor("e", 4)
    assert cursor.take(said) is step
    assert cursor.position == Position("e", 4)


@pytest.mark.parametrize("after_seq", [2, None])
def test_a_snapshot_is_where_it_says(after_seq: int | None) -> None:
    cursor = Cursor("e", 4)
    assert cursor.take(snapshot(after_seq, epoch="new")) is Step.APPLY
    assert cursor == Cursor("new", after_seq)


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 3)), max_size=60))
def test_whatever_comes_what_is_applied_is_contiguous(ranges: list[tuple[int, int]]) -> None:
    cursor, covered = Cursor("e", 0), 0
    for first, more in ranges:
        if cursor.take(envelope(first + more, seq_from=first)) is Step.APPLY:
            assert first == covered + 1
            covered = first + more
