"""The circuit breaker: says which calls to the auth service may run, and learns from their outcomes.

Pure: the caller brings the time, makes the call, and records what came of it. Opens on consecutive failures, on the failure rate,
and on the rate of slow calls. Nobody's handshake is the probe: while it is open only a probe gets a permit, and a probe that is
lost lapses by itself, so it cannot stay shut for ever.

Source: M. Nygard, "Release It!"; the words are those of failsafe-go.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """Seconds, counts and rates. `failure_window_seconds`: consecutive failures count only if they lie within it."""

    failures: int = 5
    failure_window_seconds: float | None = None
    failure_rate: float = 0.5
    slow_seconds: float = 1.0
    slow_rate: float = 0.8
    min_calls: int = 10
    window_seconds: float = 10.0
    open_seconds: float = 5.0
    max_open_seconds: float = 60.0
    probe_seconds: float = 5.0
    probe_successes: int = 2


@dataclass(frozen=True, slots=True)
class Permit:
    """Right to make one call, in this epoch: each transition begins a new one."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Refused:
    retry_after_seconds: float


@dataclass(frozen=True, slots=True)
class _Outcome:
    at: float
    succeeded: bool
    slow: bool


class CircuitBreaker:
    """See the module. All times are monotonic seconds."""

    def __init__(self, policy: BreakerPolicy, now: float) -> None:
        self.policy = policy
        self.state = State.CLOSED
        self.since = now
        self.epoch = 0
        self._retry_at = now
        self._open_seconds = policy.open_seconds
        self._failures: deque[float] = deque(maxlen=policy.failures)
        self._outcomes: deque[_Outcome] = deque(maxlen=1_000)
        self._probe_successes = 0

    def acquire(self, now: float, *, probe: bool = False, canary: bool = False) -> Permit | Refused:
        """Ask for one call.

        Args:
            probe: this call may find out whether the service is back; let through once the open time is over.
            canary: a probe that risks nobody's handshake, so it need not wait for the open time.
        """
        if self.state is State.CLOSED or canary:
            return Permit(self.epoch)
        if not probe or now < self._retry_at:
            return Refused(max(self._retry_at - now, 0.0))
        if self.state is State.OPEN:
            self._enter(State.HALF_OPEN, now)
        self._retry_at = now + self.policy.probe_seconds
        return Permit(self.epoch)

    def record(self, permit: Permit, *, succeeded: bool, now: float, seconds: float = 0.0) -> None:
        """What came of a call. A cancelled call is not recorded: it is neither success nor failure.

        An outcome from before the last transition says nothing about now and is passed over.
        """
        if permit.epoch != self.epoch:
            return
        if self.state is State.CLOSED:
            self._record_call(_Outcome(now, succeeded, seconds > self.policy.slow_seconds))
        elif succeeded:
            self._record_probe_success(now)
        elif self.state is State.HALF_OPEN:
            self._open_seconds = min(self._open_seconds * 2, self.policy.max_open_seconds)
            self._enter(State.OPEN, now)

    @property
    def retry_at(self) -> float:
        """When a probe is let through at the latest. Monotonic seconds."""
        return self._retry_at

    def _record_probe_success(self, now: float) -> None:
        successes = self._probe_successes + 1
        if successes >= self.policy.probe_successes:
            self._open_seconds = self.policy.open_seconds
            self._enter(State.CLOSED, now)
            return
        if self.state is State.OPEN:
            self._enter(State.HALF_OPEN, now)
        self._probe_successes = successes
        self._retry_at = now

    def _record_call(self, outcome: _Outcome) -> None:
        self._outcomes.append(outcome)
        while self._outcomes and outcome.at - self._outcomes[0].at > self.policy.window_seconds:
            self._outcomes.popleft()
        if outcome.succeeded:
            self._failures.clear()
        else:
            self._failures.append(outcome.at)
        if (outcome.slow or not outcome.succeeded) and (self._too_many_failures() or self._too_high_rates()):
            self._enter(State.OPEN, outcome.at)  # never on a good outcome: it would shut out a service that is back

    def _too_many_failures(self) -> bool:
        if len(self._failures) < self.policy.failures:
            return False
        window = self.policy.failure_window_seconds
        return window is None or self._failures[-1] - self._failures[0] <= window

    def _too_high_rates(self) -> bool:
        total = len(self._outcomes)
        if total < self.policy.min_calls:
            return False
        failed = sum(not outcome.succeeded for outcome in self._outcomes)
        slow = sum(outcome.slow for outcome in self._outcomes)
        return failed >= self.policy.failure_rate * total or slow >= self.policy.slow_rate * total

    def _enter(self, state: State, now: float) -> None:
        self.state, self.since = state, now
        self.epoch += 1
        self._failures.clear()
        self._outcomes.clear()
        self._probe_successes = 0
        if state is State.OPEN:
            self._retry_at = now + self._open_seconds
