from __future__ import annotations

import pytest

from doorward.core.limits import AddressLimit, Bulkhead, Lane, RetryBudget, Throttle, TokenBucket, Waiting, network_of
from doorward.core.verdict import Code


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(2.0, 3.0, 0.0)

    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(0.4), bucket.take(0.5), bucket.take(0.5)] == [False, True, False]


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket(2.0, 3.0, 0.0)
    bucket.take(0.0)
    assert [bucket.is_full(0.0), bucket.is_full(0.5)] == [False, True]

    assert [bucket.take(1_000.0) for _ in range(4)] == [True, True, True, False]


def test_a_clock_that_stands_still_or_goes_back_neither_fills_nor_empties_a_bucket() -> None:
    bucket = TokenBucket(8.0, 1.0, 100.0)

    assert [bucket.take(now) for now in (0.0, 100.0, 0.0, 100.0)] == [True, False, False, False]
    assert bucket.take(100.125) is True


def test_each_address_has_its_own_bucket() -> None:
    limit = AddressLimit(1.0, 2.0)

    assert [limit.take("10.0.0.1", 0.0) for _ in range(3)] == [True, True, False]
    assert limit.take("10.0.0.2", 0.0) is True
    assert limit.take("10.0.0.1", 1.0) is True


def test_there_is_a_bounded_number_of_buckets_and_the_idle_ones_go() -> None:
    limit = AddressLimit(1.0, 1.0, max_addresses=2)
    assert limit.take("a", 0.0) is True
    assert limit.take("b", 0.0) is True
    assert limit.take("a", 0.0) is False
    assert limit.take("c", 0.0) is True

    assert limit.take("a", 0.0) is False
    assert limit.take("b", 0.0) is True


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:DB8:1:2::ffff", "2001:db8:1:2::"),
        ("::1", "::"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::FFFF:0a00:0001", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::"),
        ("10.0.0.1:443", "10.0.0.1:443"),
        ("unix:", "unix:"),
        ("", ""),
    ],
)
def test_the_network_is_what_one_peer_controls(address: str, network: str) -> None:
    assert network_of(address) == network


def test_one_client_cannot_multiply_by_moving_within_its_network() -> None:
    limit = AddressLimit(1.0, 1.0)

    assert limit.take("2001:db8::1", 0.0) is True
    assert limit.take("2001:db8::2", 0.0) is False
    assert limit.take("2001:db8:0:1::1", 0.0) is True


def test_the_unproven_lane_cannot_fill_the_bulkhead() -> None:
    bulkhead = Bulkhead(4, unproven=1, abandoned=2)

    assert [bulkhead.enter(Lane.UNPROVEN) for _ in range(2)] == [True, False]
    assert [bulkhead.enter(Lane.PROVEN) for _ in range(4)] == [True, True, True, False]
    assert bulkhead.total == 4
    assert bulkhead.enter(Lane.UNPROVEN) is False


def test_a_slot_that_was_left_is_free_again() -> None:
    bulkhead = Bulkhead(1, unproven=5, abandoned=1)
    assert bulkhead.unproven == 1
    assert bulkhead.enter(Lane.UNPROVEN) is True
    bulkhead.leave(Lane.UNPROVEN)

    assert bulkhead.total == 0
    assert bulkhead.enter(Lane.PROVEN) is True


def test_too_many_calls_that_still_clean_up_close_the_bulkhead() -> None:
    bulkhead = Bulkhead(4, unproven=2, abandoned=2)
    bulkhead.abandoned = 2
    assert bulkhead.enter(Lane.PROVEN) is False
    bulkhead.abandoned = 1

    assert bulkhead.enter(Lane.PROVEN) is True


def test_a_throttled_lane_stays_quiet_until_the_longest_wait_is_over() -> None:
    throttle = Throttle()
    assert throttle.remaining(0.0) == 0.0
    throttle.hold(10.0, 5.0)
    throttle.hold(11.0, 1.0)

    assert [throttle.remaining(now) for now in (11.0, 14.0, 15.0, 20.0)] == [4.0, 1.0, 0.0, 0.0]


def test_retries_are_a_tenth_of_the_calls_and_a_small_reserve() -> None:
    budget = RetryBudget(ratio=0.1, reserve=2.0)
    assert [budget.withdraw() for _ in range(3)] == [True, True, False]
    for _ in range(9):
        budget.deposit()
    assert budget.withdraw() is False
    budget.deposit()
    budget.deposit()

    assert [budget.withdraw(), budget.withdraw()] == [True, False]


def test_quiet_times_save_up_no_retry_storm() -> None:
    budget = RetryBudget(ratio=0.1, reserve=2.0)
    for _ in range(1_000):
        budget.deposit()

    assert [budget.withdraw() for _ in range(3)] == [True, True, False]


def test_those_that_are_waited_for_are_bounded() -> None:
    waiting = Waiting(3, per_address=2)
    assert [waiting.enter(address) for address in ("192.0.2.1", "2001:db8::1")] == [None, None]
    assert waiting.enter("2001:db8::2") is None  # of the same /64
    full = waiting.enter("192.0.2.9")
    assert full is not None
    assert full.code is Code.OVERLOADED
    waiting.leave("192.0.2.1")
    crowded = waiting.enter("2001:db8::3")
    assert crowded is not None
    assert crowded.code is Code.RATE_LIMITED
    assert waiting.enter("192.0.2.9") is None
    for address in ("2001:db8::1", "2001:db8::2", "192.0.2.9"):
        waiting.leave(address)
    assert len(waiting) == 0
