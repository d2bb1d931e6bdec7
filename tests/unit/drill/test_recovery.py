"""A door is well again after a whole row of good answers, and not before."""

from __future__ import annotations

import pytest

from doorward.drill.recovery import Streak


def watched(answers: str, *, until: float = 5.0, every: float = 1.0) -> Streak:
    """`+` is a good answer, `-` a bad one; one each `every` seconds for as long as the streak goes on."""
    streak = Streak(3, until=until)
    for number, answer in enumerate(answers):
        if not streak.goes_on(number * every):
            break
        streak.add(good=answer == "+", at=number * every)
    return streak


@pytest.mark.parametrize(
    ("answers", "began_at"),
    [
        ("+++", 0.0),
        ("--+++", 2.0),
        ("++-+++", 3.0),
        ("----+++", 4.0),  # began in time, whole after it
        ("----+-+++", None),  # one late good answer is no recovery
        ("-----+++", None),
        ("++", None),
        ("", None),
    ],
)
def test_a_whole_row_counts_from_its_first_answer(answers: str, began_at: float | None) -> None:
    assert watched(answers).began_at == began_at


def test_it_is_asked_no_longer_than_needed() -> None:
    streak = watched("+++")
    assert not streak.goes_on(2.5)
    late = watched("----+")
    assert late.goes_on(6.0), "a row that began in time is finished"
    late.add(good=False, at=6.0)
    assert not late.goes_on(6.0)
