"""A manual clock moves when told and not otherwise."""

from __future__ import annotations

import pytest

from doorward.errors import UsageError
from doorward.runtime.ports import Clock
from doorward.testing import ManualClock


def test_advance_moves_both_clocks() -> None:
    manual = ManualClock(monotonic=10.0, wall=20.0)
    clock: Clock = manual
    assert (clock.monotonic(), clock.wall()) == (10.0, 20.0)
    assert manual.advance(2.5) == 12.5
    assert (clock.monotonic(), clock.wall()) == (12.5, 22.5)


def test_the_wall_clock_can_be_set_alone() -> None:
    clock = ManualClock(monotonic=10.0, wall=20.0)
    clock.shift_wall(-5)
    assert (clock.monotonic(), clock.wall()) == (10.0, 15.0)


def test_time_does_not_run_backwards() -> None:
    with pytest.raises(UsageError):
        ManualClock().advance(-0.1)
