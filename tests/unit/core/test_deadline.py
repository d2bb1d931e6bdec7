from __future__ import annotations

from doorward.core.deadline import Deadline


def test_what_is_left_shrinks_and_never_goes_below_nothing() -> None:
    deadline = Deadline.after(10.0, 2.0)

    assert deadline.at == 12.0
    assert [deadline.remaining(now) for now in (10.0, 11.5, 12.0, 99.0)] == [2.0, 0.5, 0.0, 0.0]
    assert [deadline.expired(now) for now in (11.999, 12.0)] == [False, True]


def test_a_phase_cap_is_clipped_by_what_is_left() -> None:
    deadline = Deadline(12.0)

    assert deadline.clipped(10.0, 1.0) == 1.0
    assert deadline.clipped(11.5, 1.0) == 0.5
    assert deadline.clipped(13.0, 1.0) == 0.0


def test_the_earlier_of_two_holds() -> None:
    assert Deadline(12.0).earlier(11.0) == Deadline(11.0)
    assert Deadline(12.0).earlier(13.0) == Deadline(12.0)
