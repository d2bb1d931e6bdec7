"""Asks the auth service about one token, under all the rules: gate, at most two attempts, what each outcome counts as.

Every outcome is a value. Exceptions become one here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable

from doorward.core.answer import Invalid, Valid, shown, taken
from doorward.core.breaker import Refused
from doorward.core.deadline import Deadline
from doorward.core.verdict import Cause, Code
from doorward.errors import (
    BackendError,
    BadAnswer,
    BadStatus,
    ConnectError,
    ConnectionLost,
    ConnectTimeout,
    DeadlinePassed,
    IdentityMismatch,
    PoolTimeout,
    ReadTimeout,
    ServiceCredentialRefused,
    Throttled,
    WriteTimeout,
)
from doorward.runtime.bounded import Reaper, bounded
from doorward.runtime.gate import Gate, Pass, Unanswered
from doorward.runtime.log import get_logger, raised_at
from doorward.runtime.ports import Clock, Validator
from doorward.runtime.telemetry import Telemetry
from doorward.runtime.tracing import DecisionSpan, Tracing

MIN_SECONDS_FOR_RETRY = 0.3
MAX_THROTTLE_SECONDS = 30.0
_TIMEOUTS = (DeadlinePassed, ReadTimeout, WriteTimeout, ConnectTimeout, PoolTimeout)
_RETRIED_STATUS = frozenset({502, 503, 504})

Complaint = Callable[[Valid | Invalid], str | None]

log = get_logger("doorward")


class Inquirer:
    def __init__(
        self,
        validator: Validator,
        gate: Gate,
        *,
        clock: Clock,
        reaper: Reaper,
        telemetry: Telemetry,
        tracing: Tracing | None = None,
    ) -> None:
        self.validator = validator
        self.gate = gate
        self._clock = clock
        self._reaper = reaper
        self._telemetry = telemetry
        self._tracing = tracing
        self._alarmed: str | None = None

    async def ask(
        self,
        token: str,
        passed: Pass,
        deadline: Deadline,
        *,
        complaint: Complaint,
        asker: DecisionSpan | None = None,
    ) -> Valid | Invalid | Unanswered:
        """Ask with the pass that the gate gave; the caller gives it back. A second attempt takes a permit of its own.

        Args:
            complaint: what is wrong with an answer, or `None`. An answer with a complaint is alarmed, counts as a failure,
                and not even a proven token may come in on it.
            asker: the decision that asks, where somebody traces.

        Cancellation: the call is cancelled; neither success nor failure is recorded.
        """
        self.gate.retries.deposit()
        outcome = await self._traced(token, passed, deadline, complaint, asker)
        if not isinstance(outcome, _Retryable):
            return outcome
        enough = deadline.remaining(self._clock.monotonic()) >= MIN_SECONDS_FOR_RETRY
        if not enough or not self.gate.retries.withdraw():
            return outcome.unanswered
        permit = self.gate.acquire()
        if isinstance(permit, Refused):
            return outcome.unanswered
        second = await self._traced(token, Pass(passed.lane, permit), deadline, complaint, asker)
        return second.unanswered if isinstance(second, _Retryable) else second

    async def _traced(
        self, token: str, passed: Pass, deadline: Deadline, complaint: Complaint, asker: DecisionSpan | None
    ) -> Valid | Invalid | Unanswered | _Retryable:
        if self._tracing is None:
            return await self._attempt(token, passed, deadline, complaint)
        with self._tracing.attempt(asker, passed.lane) as span:
            outcome = await self._attempt(token, passed, deadline, complaint)
            span.ended(_result(outcome), answered=isinstance(outcome, Valid | Invalid))
            return outcome

    async def _attempt(
        self, token: str, passed: Pass, deadline: Deadline, complaint: Complaint
    ) -> Valid | Invalid | Unanswered | _Retryable:
        began = self._clock.monotonic()
        try:
            call = self.validator.validate(token, deadline=deadline)
            answer = taken(
                await bounded(
                    call, deadline, clock=self._clock, reaper=self._reaper, on_abandoned=self._count_abandoned
                )
            )
        except BackendError as error:
            return self._failed(error, passed, self._clock.monotonic() - began)
        except Exception as error:  # noqa: BLE001 - a validator of the user's own may raise anything; it is not an answer
            kind, where = type(error).__name__, raised_at(error)
            log.error("the validator raised", issuer=self.gate.issuer, error=kind, where=where)
            return self._failed(BadAnswer(f"the validator raised {kind}"), passed, 0.0)
        seconds = self._clock.monotonic() - began
        problem = complaint(answer)
        if problem is not None:
            return self._failed(IdentityMismatch(problem), passed, seconds)
        self.gate.answered(passed.permit, seconds)
        self._telemetry.metrics.attempt(self.gate.issuer, "valid" if isinstance(answer, Valid) else "invalid", seconds)
        self._alarmed = None
        return answer

    def _failed(self, error: BackendError, passed: Pass, seconds: float) -> Unanswered | _Retryable:
        unanswered = classified(error)
        self._telemetry.metrics.attempt(self.gate.issuer, label_of(error), seconds)
        if isinstance(error, DeadlinePassed):
            self._telemetry.metrics.wait_bounded("remote")
        if unanswered.cause is Cause.THROTTLED:
            self.gate.held_off(passed.lane, unanswered)
        elif unanswered.cause is Cause.CONFIG:
            self.gate.misconfigured(unanswered)
        else:
            self.gate.failed(passed.permit, seconds, unanswered)
        self._alarm(unanswered)
        return _Retryable(unanswered) if _worth_retrying(error) else unanswered

    def _alarm(self, unanswered: Unanswered) -> None:
        """Say each kind of trouble once, until something is answered again: an outage must not flood the log."""
        kind = str(unanswered.cause)
        if kind == self._alarmed:
            return
        self._alarmed = kind
        if unanswered.cause is Cause.CONFIG:
            log.critical(
                "the auth service refuses OUR service credential",
                issuer=self.gate.issuer,
                mend="check service_id and service_secret of this issuer; run `doorward doctor`",
            )
        else:
            log.error(
                "the auth service could not be asked",
                issuer=self.gate.issuer,
                cause=kind,
                detail=unanswered.detail,
            )

    def _count_abandoned(self) -> Callable[[], None]:
        bulkhead = self.gate.bulkhead
        bulkhead.abandoned += 1

        def over() -> None:
            bulkhead.abandoned -= 1

        return over


class _Retryable:
    """An attempt that failed in a way that a second one may mend."""

    __slots__ = ("unanswered",)

    def __init__(self, unanswered: Unanswered) -> None:
        self.unanswered = unanswered


def _result(outcome: Valid | Invalid | Unanswered | _Retryable) -> str:
    """How an attempt ended, for its span: a closed set."""
    if isinstance(outcome, Valid | Invalid):
        return "valid" if isinstance(outcome, Valid) else "invalid"
    unanswered = outcome.unanswered if isinstance(outcome, _Retryable) else outcome
    return str(unanswered.cause)


def classified(error: BackendError) -> Unanswered:
    """Which cause of the table an error is."""
    detail = shown(f"{type(error).__name__}: {error}")
    if isinstance(error, Throttled):
        wait = min(MAX_THROTTLE_SECONDS, error.retry_after_seconds)  # in this order: of a NaN comes the bound
        return Unanswered(Code.SERVICE_UNAVAILABLE, Cause.THROTTLED, detail, retry_after_seconds=wait)
    cause = Cause.UPSTREAM
    if isinstance(error, ServiceCredentialRefused):
        cause = Cause.CONFIG
    elif isinstance(error, BadAnswer):
        cause = Cause.PROTOCOL
    elif isinstance(error, _TIMEOUTS):
        cause = Cause.DEADLINE
    return Unanswered(Code.SERVICE_UNAVAILABLE, cause, detail, fallback=not isinstance(error, IdentityMismatch))


def _worth_retrying(error: BackendError) -> bool:
    """Refused, reset, a stale kept-alive connection, or a gateway's 502-504: the call was most likely not made at all."""
    if isinstance(error, BadStatus):
        return error.status in _RETRIED_STATUS
    return isinstance(error, ConnectError | ConnectionLost)


def label_of(error: BackendError) -> str:
    """Metric label: the kind of error, a closed set."""
    if isinstance(error, BadStatus):
        return "bad_status"
    name = type(error).__name__
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
