from __future__ import annotations

import pytest

from doorward.core.backoff import jittered, next_delay


def test_the_wait_doubles_up_to_the_cap() -> None:
    waits = [next_delay(attempt, base_seconds=1.0, cap_seconds=30.0, uniform=1.0) for attempt in range(7)]

    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_full_jitter_may_be_no_wait_at_all() -> None:
    assert next_delay(3, base_seconds=1.0, cap_seconds=30.0, uniform=0.0) == 0.0
    assert next_delay(3, base_seconds=1.0, cap_seconds=30.0, uniform=0.25) == 2.0


def test_a_million_attempts_do_not_overflow() -> None:
    assert next_delay(1_000_000, base_seconds=0.5, cap_seconds=60.0, uniform=0.5) == 30.0


def test_the_spread_goes_both_ways() -> None:
    assert [jittered(5.0, spread=0.2, uniform=u) for u in (0.0, 0.5)] == [4.0, 5.0]
    assert jittered(5.0, spread=0.2, uniform=0.9999) == pytest.approx(6.0, abs=0.01)
