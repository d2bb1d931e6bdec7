"""What happened: one record per decision, kept for a while, counted, and written as one log line.

The log writer must never block the loop; see `adapters/logs.py`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from doorward.core.breaker import State
from doorward.runtime.history import LatencyHistory
from doorward.runtime.insight import DecisionRecord, Statistics, Timeline
from doorward.runtime.log import get_logger
from doorward.runtime.ports import Clock
from doorward.runtime.tracing import DecisionSpan

KEPT_DECISIONS = 2_000

log = get_logger("doorward")


class Metrics(Protocol):
    """Counters and histograms. Every label is a closed set; never a user or a token. `issuer`: its name in the settings."""

    def decision(self, verdict: str, source: str, reason: str, seconds: float) -> None: ...

    def attempt(self, issuer: str, result: str, seconds: float) -> None: ...

    def probe(self, issuer: str, result: str, seconds: float) -> None: ...

    def wait_bounded(self, step: str) -> None: ...

    def deadline_overrun(self, seconds: float) -> None: ...

    def breaker(self, issuer: str, state: str) -> None: ...

    def breaker_transition(self, issuer: str, to: str) -> None: ...

    def degraded_admit(self, assurance: str) -> None: ...

    def e2e_admit(self) -> None: ...

    def expiry_grace(self) -> None: ...

    def revalidation(self, result: str) -> None: ...

    def loop_lag(self, seconds: float) -> None: ...


class Trace:
    """The timeline of one decision. `span` is there where somebody traces."""

    __slots__ = ("_now", "began", "ended", "ends", "span")

    def __init__(self, clock: Clock, span: DecisionSpan | None = None) -> None:
        self.span = span
        self._now = clock.monotonic
        self.began = self.ended = clock.monotonic()
        self.ends: dict[str, float] = {}
        """When each step ended, in order; monotonic seconds, as `began` and `ended`."""

    def mark(self, name: str) -> None:
        """A step has ended, and the next one begins. No step comes twice."""
        self.ends[name] = self.ended = self._now()

    @property
    def steps(self) -> Timeline:
        return Timeline(self.began, self.ends)

    @property
    def total_seconds(self) -> float:
        return self.ended - self.began


class Telemetry:
    """The one place that counts and logs. `emit` gets each record as it is made."""

    def __init__(self, metrics: Metrics, *, clock: Clock, emit: Callable[[DecisionRecord], None]) -> None:
        self.metrics = metrics
        self.largest_lag_seconds = 0.0
        self.largest_overrun_seconds = 0.0
        self.latency = LatencyHistory()
        self._clock = clock
        self._emit = emit
        self._records: deque[DecisionRecord] = deque(maxlen=KEPT_DECISIONS)

    def decided(self, record: DecisionRecord) -> None:
        self._records.append(record)
        self.latency.add(record.at, record.total_ms, record.verdict)
        self.metrics.decision(record.verdict, record.source, record.reason, record.total_ms / 1000)
        if record.overrun_ms > 0:
            self.metrics.deadline_overrun(record.overrun_ms / 1000)
            self.largest_overrun_seconds = max(self.largest_overrun_seconds, record.overrun_ms / 1000)
        try:
            self._emit(record)
        except Exception:
            log.exception("a decision could not be logged: this is a bug", id=record.id)

    def breaker_is(self, issuer: str, state: State) -> None:
        self.metrics.breaker(issuer, state)

    def breaker_moved(self, issuer: str, before: State, after: State) -> None:
        self.metrics.breaker(issuer, after)
        self.metrics.breaker_transition(issuer, after)
        log.warning("breaker", issuer=issuer, before=before.value, after=after.value)

    def lagged(self, seconds: float) -> None:
        self.largest_lag_seconds = max(self.largest_lag_seconds, seconds)
        self.metrics.loop_lag(seconds)

    def decision(self, decision_id: str) -> DecisionRecord | None:
        """Looked for among all that are kept: that is seldom, and an index would have to follow every decision."""
        return next((record for record in reversed(self._records) if record.id == decision_id), None)

    def decisions(self, limit: int) -> Sequence[DecisionRecord]:
        """Newest first."""
        return [record for record, _ in zip(reversed(self._records), range(limit), strict=False)]

    def statistics(self, window_seconds: float, kind: str | None = None) -> Statistics:
        since = self._since(self._clock.wall() - window_seconds)
        records = [record for record in since if kind is None or record.kind == kind]
        times = sorted(record.total_ms for record in records)
        return Statistics(
            window_seconds=window_seconds,
            total=len(records),
            by_verdict=Counter(record.verdict for record in records),
            by_reason=Counter(record.reason for record in records),
            p50_ms=_quantile(times, 0.5),
            p99_ms=_quantile(times, 0.99),
            max_ms=times[-1] if times else None,
        )

    def _since(self, wall: float) -> Iterator[DecisionRecord]:
        for record in reversed(self._records):
            if record.at < wall:
                return
            yield record


def _quantile(ascending: Sequence[float], q: float) -> float | None:
    return ascending[min(int(len(ascending) * q), len(ascending) - 1)] if ascending else None
