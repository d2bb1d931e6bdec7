"""Wall time never moves back within a process."""

from __future__ import annotations

import time

from doorward.runtime.clock import SystemClock


def test_wall_time_stands_still_while_the_system_clock_is_set_back() -> None:
    readings = iter([100.0, 105.0, 40.0, 104.0, 106.0])
    clock = SystemClock(wall=lambda: next(readings))
    assert [clock.wall() for _ in range(5)] == [100.0, 105.0, 105.0, 105.0, 106.0]


def test_monotonic_is_the_clock_of_the_loop() -> None:
    before = time.monotonic()
    assert before <= SystemClock().monotonic() <= time.monotonic()
