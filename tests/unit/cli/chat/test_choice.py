"""The list of conversations, as people read it."""

from __future__ import annotations

import pytest

from doorward.cli.chat.choice import age, line_of, picked
from doorward.client import Thread

NOW = 1_700_000_000.0
AT = "2023-11-14T22:13:20.000Z"
THREADS = [Thread(f"t-{name}", name, AT, AT) for name in ("one", "two", "7")]


@pytest.mark.parametrize(
    ("later", "words"),
    [
        (-5, "just now"),
        (59, "just now"),
        (60, "1 minute ago"),
        (7_199, "1 hour ago"),
        (7_200, "2 hours ago"),
        (200_000, "2 days ago"),
    ],
)
def test_how_long_ago(later: float, words: str) -> None:
    assert age(AT, wall_now=NOW + later) == words


def test_a_time_that_is_none_is_left_out() -> None:
    assert age("yesterday", wall_now=NOW) == ""


def test_a_row_is_one_line_whatever_the_title() -> None:
    thread = Thread("t-x", "two\nlines \x1b[31m" + "x" * 99, AT, AT, active_run_id="r1")
    line = line_of(thread, wall_now=NOW)
    assert line.startswith("t-x")
    assert line.endswith("…  (answering)")
    assert "\n" not in line
    assert "\x1b" not in line
    assert line_of(Thread("t-x", None, AT, AT), wall_now=NOW, number=3).startswith("3 ")
    assert "(nothing asked yet)" in line_of(Thread("t-x", None, AT, AT), wall_now=NOW)


@pytest.mark.parametrize(
    ("answer", "thread_id"),
    [
        ("1", "t-one"),
        (" 3 ", "t-7"),
        ("t-two", "t-two"),
        ("0", None),
        ("4", None),
        ("x", None),
        ("9" * 50, None),
        ("²", None),
    ],
)
def test_it_is_picked_by_number_or_by_id(answer: str, thread_id: str | None) -> None:
    thread = picked(answer, THREADS)
    assert (thread.thread_id if thread else None) == thread_id
