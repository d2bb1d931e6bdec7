"""How far a clock is off, by whole seconds."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from doorward.cli.checkup import skew_of

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (NOW + 0.9, 0.0),  # shown as NOW
        (NOW - 0.5, 0.0),  # shown as NOW - 1, and it may still be that second
        (NOW + 10, 9.8),
        (NOW - 10, -9.0),
    ],
)
def test_skew(peer: float, expected: float) -> None:
    assert skew_of(formatdate(peer, usegmt=True), NOW, NOW + 0.2) == pytest.approx(expected)


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Foo 2020 00:00:00 GMT"])
def test_a_date_that_cannot_be_read(date: str) -> None:
    assert skew_of(date, NOW, NOW) is None
