from __future__ import annotations

from copy import deepcopy

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from doorward.core.breaker import BreakerPolicy, CircuitBreaker, Permit, Refused, State

SECONDS = st.floats(0, 120, allow_nan=False)

policies = st.builds(
    BreakerPolicy,
    failures=st.integers(1, 6),
    failure_window_seconds=st.none() | st.floats(0.1, 20),
    failure_rate=st.floats(0.01, 1),
    slow_rate=st.floats(0.01, 1),
    min_calls=st.integers(1, 12),
    window_seconds=st.floats(0.1, 30),
    open_seconds=st.floats(0.1, 10),
    max_open_seconds=st.floats(10, 60),
    probe_seconds=st.floats(0.1, 10),
)


class AnyHistory(RuleBasedStateMachine):
    """Calls in any order, answered late, out of order, twice, or never."""

    @initialize(policy=policies)
    def begin(self, policy: BreakerPolicy) -> None:
        self.now = 0.0
        self.breaker = CircuitBreaker(policy, self.now)
        self.permits: list[Permit] = []

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(probe=st.booleans(), canary=st.booleans())
    def ask(self, probe: bool, canary: bool) -> None:
        before = self.breaker.state
        permit = self.breaker.acquire(self.now, probe=probe, canary=canary)
        if isinstance(permit, Refused):
            assert before is not State.CLOSED
            assert 0 <= permit.retry_after_seconds <= self.longest_wait()
            return
        assert before is State.CLOSED or probe or canary, "a user's handshake is never the probe"
        self.permits.append(permit)

    @rule(data=st.data(), succeeded=st.booleans(), seconds=SECONDS, keep=st.booleans())
    def answer(self, data: st.DataObject, succeeded: bool, seconds: float, keep: bool) -> None:
        if not self.permits:
            return
        index = data.draw(st.integers(0, len(self.permits) - 1))
        permit = self.permits[index] if keep else self.permits.pop(index)
        before = (self.breaker.state, self.breaker.epoch)
        self.breaker.record(permit, succeeded=succeeded, now=self.now, seconds=seconds)
        if permit.epoch != before[1]:
            assert (self.breaker.state, self.breaker.epoch) == before, "a late answer moved the state"

    @invariant()
    def is_never_stuck(self) -> None:
        breaker = deepcopy(self.breaker)
        assert isinstance(breaker.acquire(max(self.now, breaker.retry_at), probe=True), Permit)

    @invariant()
    def is_never_shut_for_longer_than_its_bound(self) -> None:
        assert self.breaker.state is State.CLOSED or self.breaker.retry_at - self.now <= self.longest_wait()

    @invariant()
    def two_canaries_close_it(self) -> None:
        breaker = deepcopy(self.breaker)
        for _ in range(2):
            if breaker.state is State.CLOSED:
                break
            permit = breaker.acquire(self.now, canary=True)
            assert isinstance(permit, Permit)
            breaker.record(permit, succeeded=True, now=self.now)
        assert breaker.state is State.CLOSED
        assert isinstance(breaker.acquire(self.now), Permit)

    def longest_wait(self) -> float:
        policy = self.breaker.policy
        return max(policy.max_open_seconds, policy.open_seconds, policy.probe_seconds)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
