"""Buckets slow down and always open again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from doorward.authd.throttle import Buckets, Familiar


def test_a_burst_and_then_the_rate() -> None:
    buckets = Buckets(0.5, 2)
    assert [buckets.take("a", 10.0) for _ in range(3)] == [0.0, 0.0, 2.0]
    assert buckets.take("a", 11.0) == 1.0
    assert buckets.take("a", 12.0) == 0.0
    assert buckets.take("b", 12.0) == 0.0


def test_giving_back_never_exceeds_the_burst() -> None:
    buckets = Buckets(1, 2)
    buckets.take("a", 0.0)
    for _ in range(5):
        buckets.give_back("a", 0.0)
    assert [buckets.take("a", 0.0) > 0 for _ in range(3)] == [False, False, True]


def test_the_quietest_key_is_forgotten_first() -> None:
    buckets = Buckets(0.001, 1, max_keys=2)
    for key in ("old", "mid", "new"):
        buckets.take(key, 0.0)
    assert buckets.take("new", 0.0) > 0
    assert buckets.take("old", 0.0) == 0.0


@given(st.lists(st.floats(0, 5), max_size=60), st.floats(0.01, 10), st.integers(1, 20))
def test_never_a_lock(gaps: list[float], rate: float, burst: int) -> None:
    buckets, now = Buckets(rate, burst), 0.0
    for gap in gaps:
        now += gap
        buckets.take("a", now)
    waits = [buckets.take("a", now) for _ in range(burst + 1)]
    wait = waits[-1]
    assert 0 < wait <= 1 / rate + 1e-9
    assert buckets.take("a", now + wait + 1e-6) == 0.0


def test_a_familiar_address_has_a_bucket_of_its_own() -> None:
    familiar = Familiar(max_pairs=1)
    assert familiar.bucket_of("ann", "1.1.1.1") == "ann"
    familiar.note("ann", "1.1.1.1")
    assert familiar.bucket_of("ann", "1.1.1.1") != familiar.bucket_of("ann", "2.2.2.2") == "ann"
    familiar.note("bob", "1.1.1.1")
    assert familiar.bucket_of("ann", "1.1.1.1") == "ann"
