from __future__ import annotations

import pytest

from doorward.core.reconnect import MAX_SECONDS, Crowd, retry_after


def wait(
    window: tuple[float, float] = (1.0, 5.0), *, waiting: int = 0, uniform: float = 0.5, asked: float | None = None
) -> float:
    return retry_after(window, waiting=waiting, rate_per_second=100.0, uniform=uniform, asked_seconds=asked)


def test_a_few_clients_are_spread_over_the_rows_window() -> None:
    assert [wait(uniform=uniform) for uniform in (0.0, 0.5)] == [1.0, 3.0]


def test_a_crowd_is_spread_over_the_time_it_needs() -> None:
    assert wait(waiting=2_000, uniform=0.5) == 11.0


def test_no_crowd_waits_for_ever() -> None:
    assert wait(waiting=10_000_000, uniform=0.999) == MAX_SECONDS


@pytest.mark.parametrize(("asked", "least"), [(0.5, 1.0), (4.0, 4.0), (900.0, 30.0), (float("nan"), 1.0)])
def test_what_the_service_asked_lifts_the_minimum_within_the_window(asked: float, least: float) -> None:
    assert wait((1.0, 30.0), asked=asked, uniform=0.0) == least


def test_a_crowd_is_spread_even_where_the_window_is_a_point() -> None:
    assert wait((30.0, 30.0), waiting=1_000, uniform=0.5) == 35.0


def test_who_was_told_to_wait_leaves_the_count_again() -> None:
    crowd = Crowd(bucket_seconds=10.0)
    for now in (1_000.0, 1_001.0, 1_012.0):
        crowd.told_to_wait(now)

    assert crowd.waiting(1_013.0) == 3
    assert crowd.waiting(1_020.0) == 1
    assert crowd.waiting(1_030.0) == 0


def test_after_a_long_silence_nobody_waits() -> None:
    crowd = Crowd(bucket_seconds=10.0)
    crowd.told_to_wait(5.0)

    assert crowd.waiting(1_000.0) == 0
