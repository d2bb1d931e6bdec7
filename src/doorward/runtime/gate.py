"""The gate before the auth service: breaker, throttle, bulkhead. Says yes or no, never waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from doorward.core.breaker import CircuitBreaker, Permit, Refused, State
from doorward.core.limits import Bulkhead, Lane, RetryBudget, Throttle
from doorward.core.verdict import Cause, Code
from doorward.runtime.history import KEPT_CHANGES, Change
from doorward.runtime.ports import Clock
from doorward.runtime.telemetry import Telemetry

OVERDUE_SECONDS = 10.0
UNHEARD_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Pass:
    """A slot of the bulkhead and a permit of the breaker. Give it back with `Gate.leave`, whatever happens."""

    lane: Lane
    permit: Permit


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Could not ask, and why. `fallback` is false where not even a proven token may come in (identity mismatch)."""

    code: Code
    cause: Cause | None
    detail: str = ""
    retry_after_seconds: float | None = None
    fallback: bool = True


class Gate:
    """Also knows whether there is an outage right now, and tells when it is over.

    Args:
        issuer: the name of the one whose auth service is behind it.
    """

    def __init__(
        self, issuer: str, breaker: CircuitBreaker, bulkhead: Bulkhead, *, clock: Clock, telemetry: Telemetry
    ) -> None:
        self.issuer = issuer
        self.breaker = breaker
        self.bulkhead = bulkhead
        self.retries = RetryBudget()
        self.changes: deque[Change] = deque(maxlen=KEPT_CHANGES)
        """Of the breaker."""
        self.on_recovered: Callable[[], None] = lambda: None
        self._throttles = {lane: Throttle() for lane in Lane}
        self._clock = clock
        self._telemetry = telemetry
        self._suspect: Unanswered | None = None
        self._suspect_since = 0.0
        telemetry.breaker_is(issuer, breaker.state)

    @property
    def suspect(self) -> Unanswered | None:
        """The last question that got no answer, until one gets an answer again."""
        return self._suspect

    @property
    def in_outage(self) -> bool:
        return self._suspect is not None or self.breaker.state is not State.CLOSED

    @property
    def is_overdue(self) -> bool:
        """The open time has been over for a while, and no probe has come."""
        return self.in_outage and self._clock.monotonic() >= self.breaker.retry_at + OVERDUE_SECONDS

    @property
    def is_unheard(self) -> bool:
        """Has nobody asked for so long, though it was allowed, that the last trouble says nothing about now?"""
        return self._clock.monotonic() >= max(self._suspect_since, self.breaker.retry_at) + UNHEARD_SECONDS

    def enter(self, lane: Lane, *, probe: bool = False) -> Pass | Unanswered:
        """Args: probe: the caller holds a fallback, so its question may find out whether the service is back."""
        throttled = self.throttled_seconds(lane)
        if throttled > 0:
            return Unanswered(Code.SERVICE_UNAVAILABLE, Cause.THROTTLED, retry_after_seconds=throttled)
        permit = self.acquire(probe=probe)
        if isinstance(permit, Refused):
            return Unanswered(Code.SERVICE_UNAVAILABLE, Cause.BREAKER_OPEN)
        if not self.bulkhead.enter(lane):
            return Unanswered(Code.OVERLOADED, None, f"the {lane} lane is full")
        return Pass(lane, permit)

    def leave(self, passed: Pass) -> None:
        self.bulkhead.leave(passed.lane)

    def throttled_seconds(self, lane: Lane) -> float:
        """How long the auth service still wants to hear nothing from this lane."""
        return self._throttles[lane].remaining(self._clock.monotonic())

    def acquire(self, *, probe: bool = False, canary: bool = False) -> Permit | Refused:
        before = self.breaker.state
        permit = self.breaker.acquire(self._clock.monotonic(), probe=probe, canary=canary)
        self._watch(before)
        return permit

    def answered(self, permit: Permit, seconds: float) -> None:
        """The service said yes or no. Either way it works. The answer that ends an outage tells `on_recovered`."""
        was_out = self.in_outage
        self._record(permit, succeeded=True, seconds=seconds)
        self._suspect = None
        if was_out and not self.in_outage:
            self.on_recovered()

    def failed(self, permit: Permit, seconds: float, unanswered: Unanswered) -> None:
        self._record(permit, succeeded=False, seconds=seconds)
        self._suspects(unanswered)

    def held_off(self, lane: Lane, unanswered: Unanswered) -> None:
        """429, or 503 with Retry-After: this lane stays quiet for a while. Not the breaker's business."""
        self._throttles[lane].hold(self._clock.monotonic(), unanswered.retry_after_seconds or 1.0)
        self._suspects(unanswered)

    def misconfigured(self, unanswered: Unanswered) -> None:
        """Our own credential was refused: neither success nor failure of the service."""
        self._suspects(unanswered)

    def _suspects(self, unanswered: Unanswered) -> None:
        self._suspect, self._suspect_since = unanswered, self._clock.monotonic()

    def _record(self, permit: Permit, *, succeeded: bool, seconds: float) -> None:
        before = self.breaker.state
        self.breaker.record(permit, succeeded=succeeded, now=self._clock.monotonic(), seconds=seconds)
        self._watch(before)

    def _watch(self, before: State) -> None:
        if self.breaker.state is not before:
            self.changes.append(Change(self._clock.wall(), before, self.breaker.state))
            self._telemetry.breaker_moved(self.issuer, before, self.breaker.state)
