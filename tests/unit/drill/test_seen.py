"""What people saw, and for how long they waited, in words and numbers that can be argued with."""

from __future__ import annotations

import pytest
from tests.drill_support import crowd, told

from doorward.drill.results import Column, Kind, Outcome, Phase, Sample
from doorward.drill.seen import Saw, counted, in_trouble, longest, middle, saw, span, wait_avoided, waited


@pytest.mark.parametrize(
    ("sample", "shown"),
    [
        (Sample(Phase.FAULT, Kind.JWT, 0, 1, Outcome.ALLOW, assurance="live"), Saw.LIVE),
        (Sample(Phase.FAULT, Kind.JWT, 0, 1, Outcome.ALLOW), Saw.LIVE),
        (Sample(Phase.FAULT, Kind.JWT, 0, 1, Outcome.ALLOW, assurance="local"), Saw.PROVEN),
        (Sample(Phase.FAULT, Kind.JWT, 0, 1, Outcome.UNAVAILABLE, retry_after_ms=900), Saw.AWAY),
        (Sample(Phase.FAULT, Kind.JWT, 0, 1, Outcome.UNAVAILABLE, status=500), Saw.ERROR),
        (Sample(Phase.FAULT, Kind.JWT, 0, 1, Outcome.DENY, status=403), Saw.NO),
        (Sample(Phase.FAULT, Kind.JWT, 0, 1, Outcome.BROKEN), Saw.CUT),
        (Sample(Phase.FAULT, Kind.JWT, 0, 1, Outcome.SILENT), Saw.NOTHING),
    ],
)
def test_each_answer_has_its_word(sample: Sample, shown: Saw) -> None:
    assert saw(sample) is shown


def test_only_good_tokens_in_the_fault_count() -> None:
    good = told(Outcome.ALLOW, 0.5)
    others = [told(Outcome.DENY, 0.1, kind=Kind.FORGED), told(Outcome.ALLOW, 0.1, phase=Phase.REPAIR)]

    assert in_trouble([*others, good]) == [good]


def test_all_are_told_as_all_and_the_best_comes_first() -> None:
    assert counted(in_trouble(crowd(Outcome.DENY, 1.0, number=3))) == ["all 3 called bad"]
    mixed = [*(told(Outcome.SILENT, 90.0) for _ in range(2)), told(Outcome.ALLOW, 30.0)]
    assert counted(mixed) == ["1 let in", "2 left waiting"]


def test_who_gave_up_is_told_as_such() -> None:
    people = [told(Outcome.ALLOW, 1.0), told(Outcome.SILENT, 90.004), told(Outcome.SILENT, 90.001)]

    assert waited(longest(people)) == "> 90 s"
    assert waited(middle(people)) == "> 90 s"
    assert waited(people[0]) == "1.00 s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00042, "0.4 ms"),
        (0.0099, "9.9 ms"),
        (0.501, "501 ms"),
        (0.9996, "1.00 s"),
        (9.99, "9.99 s"),
        (9.996, "10.0 s"),
        (35.24, "35.2 s"),
        (-0.024, "\u221224 ms"),
        (0.0, "0.0 ms"),
    ],
)
def test_a_span_is_said_as_people_say_it(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_at_least_never_says_more_than_was_measured() -> None:
    assert span(89.6, at_least=True) == "> 89 s"


def test_the_wait_avoided_is_the_difference_of_two_measurements() -> None:
    ours = Column("ours", crowd(Outcome.ALLOW, 0.5))
    old = Column("old", crowd(Outcome.DENY, 1.0, step=1.0))

    avoided = wait_avoided(ours, old)

    assert avoided is not None
    assert (avoided.half_seconds, avoided.longest_seconds, avoided.at_least) == (20.5, 39.5, False)


def test_the_wait_avoided_is_at_least_so_long_where_somebody_gave_up() -> None:
    avoided = wait_avoided(Column("ours", crowd(Outcome.ALLOW, 0.5)), Column("old", crowd(Outcome.SILENT, 90.0)))

    assert avoided is not None
    assert (avoided.longest_seconds, avoided.at_least) == (89.5, True)


def test_who_refuses_faster_avoids_nothing() -> None:
    avoided = wait_avoided(Column("ours", crowd(Outcome.ALLOW, 0.5)), Column("old", crowd(Outcome.DENY, 0.02)))

    assert avoided is not None
    assert avoided.longest_seconds < 0


def test_there_is_no_difference_to_a_door_that_was_not_tried() -> None:
    assert wait_avoided(Column("ours", crowd(Outcome.ALLOW, 0.5)), Column("old", why_not="not installed")) is None
    assert wait_avoided(Column("ours", why_not="did not start"), Column("old", crowd(Outcome.DENY, 0.5))) is None
