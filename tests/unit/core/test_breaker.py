from __future__ import annotations

import pytest

from doorward.core.breaker import BreakerPolicy, CircuitBreaker, Permit, Refused, State

PRODUCTION = BreakerPolicy()
STAGING = BreakerPolicy(failures=2, failure_window_seconds=10.0, max_open_seconds=30.0)


def state_of(breaker: CircuitBreaker) -> State:
    return breaker.state


def call(breaker: CircuitBreaker, *, succeeded: bool, now: float, seconds: float = 0.0) -> None:
    permit = breaker.acquire(now)
    assert isinstance(permit, Permit)
    breaker.record(permit, succeeded=succeeded, now=now, seconds=seconds)


def canary(breaker: CircuitBreaker, *, succeeded: bool, now: float) -> None:
    permit = breaker.acquire(now, canary=True)
    assert isinstance(permit, Permit)
    breaker.record(permit, succeeded=succeeded, now=now)


def opened(policy: BreakerPolicy = PRODUCTION, *, now: float = 0.0) -> CircuitBreaker:
    breaker = CircuitBreaker(policy, now)
    for _ in range(policy.failures):
        call(breaker, succeeded=False, now=now)
    assert state_of(breaker) is State.OPEN
    return breaker


def test_five_failures_in_a_row_open_it() -> None:
    breaker = CircuitBreaker(PRODUCTION, 0.0)
    for now in range(4):
        call(breaker, succeeded=False, now=float(now))
    assert state_of(breaker) is State.CLOSED
    call(breaker, succeeded=False, now=4.0)

    assert state_of(breaker) is State.OPEN
    assert breaker.since == 4.0
    assert breaker.retry_at == 9.0


def test_a_success_between_starts_the_count_again() -> None:
    breaker = CircuitBreaker(BreakerPolicy(min_calls=100), 0.0)
    for succeeded in [False] * 4 + [True] + [False] * 4:
        call(breaker, succeeded=succeeded, now=0.0)

    assert state_of(breaker) is State.CLOSED


def test_in_staging_two_failures_count_only_within_ten_seconds() -> None:
    apart, together = CircuitBreaker(STAGING, 0.0), CircuitBreaker(STAGING, 0.0)
    call(apart, succeeded=False, now=0.0)
    call(apart, succeeded=False, now=10.1)
    call(together, succeeded=False, now=0.0)
    call(together, succeeded=False, now=10.0)

    assert apart.state is State.CLOSED
    assert together.state is State.OPEN


def test_half_of_ten_calls_failing_opens_it() -> None:
    breaker = CircuitBreaker(PRODUCTION, 0.0)
    for number in range(9):
        call(breaker, succeeded=number % 2 == 0, now=number / 10)
    assert state_of(breaker) is State.CLOSED
    call(breaker, succeeded=False, now=1.0)

    assert state_of(breaker) is State.OPEN


def test_no_success_opens_it_however_many_failures_came_before() -> None:
    """Or the first good answers of a service that is back would shut it out again."""
    breaker = CircuitBreaker(PRODUCTION, 0.0)
    for number in range(9):
        call(breaker, succeeded=number % 2 == 1, now=number / 10)
    call(breaker, succeeded=True, now=1.0)
    assert state_of(breaker) is State.CLOSED
    call(breaker, succeeded=False, now=1.1)

    assert state_of(breaker) is State.OPEN


@pytest.mark.parametrize(("now", "state"), [(10.0, State.OPEN), (10.1, State.CLOSED)])
def test_calls_older_than_the_window_do_not_count(now: float, state: State) -> None:
    breaker = CircuitBreaker(PRODUCTION, 0.0)
    for number in range(9):
        call(breaker, succeeded=number % 2 == 0, now=0.0)
    call(breaker, succeeded=False, now=now)

    assert state_of(breaker) is state


def test_slow_successes_open_it_too() -> None:
    breaker = CircuitBreaker(PRODUCTION, 0.0)
    for number in range(10):
        call(breaker, succeeded=True, now=float(number) / 10, seconds=1.0 if number < 2 else 1.001)

    assert state_of(breaker) is State.OPEN


def test_calls_that_take_just_the_limit_are_not_slow() -> None:
    breaker = CircuitBreaker(PRODUCTION, 0.0)
    for number in range(50):
        call(breaker, succeeded=True, now=float(number) / 10, seconds=1.0)

    assert state_of(breaker) is State.CLOSED


def test_while_open_nobody_may_call_and_each_is_told_how_long() -> None:
    breaker = opened()

    assert breaker.acquire(1.0) == Refused(4.0)
    assert breaker.acquire(1.0, probe=True) == Refused(4.0)
    assert breaker.acquire(99.0) == Refused(0.0)


def test_after_the_open_time_one_probe_may_call() -> None:
    breaker = opened()

    assert isinstance(breaker.acquire(5.0, probe=True), Permit)
    assert state_of(breaker) is State.HALF_OPEN
    assert breaker.acquire(5.0, probe=True) == Refused(5.0)


def test_a_probe_that_is_lost_lapses_by_itself() -> None:
    breaker = opened()
    breaker.acquire(5.0, probe=True)

    assert isinstance(breaker.acquire(9.9, probe=True), Refused)
    assert isinstance(breaker.acquire(10.0, probe=True), Permit)


def test_two_good_probes_close_it() -> None:
    breaker = opened()
    for now in (5.0, 5.1):
        permit = breaker.acquire(now, probe=True)
        assert isinstance(permit, Permit)
        breaker.record(permit, succeeded=True, now=now)

    assert state_of(breaker) is State.CLOSED
    assert isinstance(breaker.acquire(5.1), Permit)


def test_two_good_canaries_close_it_whatever_the_open_time_says() -> None:
    breaker = opened()
    canary(breaker, succeeded=True, now=0.1)
    assert state_of(breaker) is State.HALF_OPEN
    canary(breaker, succeeded=True, now=0.2)

    assert state_of(breaker) is State.CLOSED


def test_a_failed_canary_leaves_it_open_as_it_was() -> None:
    breaker = opened()
    for now in range(1, 4):
        canary(breaker, succeeded=False, now=float(now))

    assert state_of(breaker) is State.OPEN
    assert breaker.retry_at == 5.0


def test_the_open_time_doubles_up_to_the_cap_and_starts_again_once_closed() -> None:
    breaker = opened()
    times = []
    now = 0.0
    for _ in range(6):
        now = breaker.retry_at
        permit = breaker.acquire(now, probe=True)
        assert isinstance(permit, Permit)
        breaker.record(permit, succeeded=False, now=now)
        times.append(breaker.retry_at - now)
    assert times == [10.0, 20.0, 40.0, 60.0, 60.0, 60.0]

    canary(breaker, succeeded=True, now=now)
    canary(breaker, succeeded=True, now=now)
    for _ in range(5):
        call(breaker, succeeded=False, now=now)
    assert breaker.retry_at - now == 5.0


@pytest.mark.parametrize("succeeded", [True, False])
def test_an_answer_from_before_the_last_transition_says_nothing(succeeded: bool) -> None:
    breaker = CircuitBreaker(PRODUCTION, 0.0)
    late = breaker.acquire(0.0)
    assert isinstance(late, Permit)
    for _ in range(5):
        call(breaker, succeeded=False, now=0.0)
    before = (breaker.state, breaker.epoch, breaker.retry_at)
    breaker.record(late, succeeded=succeeded, now=1.0)

    assert (breaker.state, breaker.epoch, breaker.retry_at) == before


def test_a_call_that_is_never_recorded_changes_nothing() -> None:
    breaker = CircuitBreaker(PRODUCTION, 0.0)
    for now in range(1_000):
        breaker.acquire(float(now))

    assert state_of(breaker) is State.CLOSED
    assert breaker.epoch == 0


def test_a_failure_while_half_open_opens_it_at_once() -> None:
    breaker = opened()
    canary(breaker, succeeded=True, now=1.0)
    canary(breaker, succeeded=False, now=2.0)

    assert state_of(breaker) is State.OPEN
    assert breaker.retry_at == 12.0
