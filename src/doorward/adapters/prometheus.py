"""The door's numbers for Prometheus. Every label is a closed set; never a user, a token or a path."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from doorward.core.verdict import Assurance, Cause, Code, Source

DECISION_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5)
DELAY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""For what should be nearly nothing: how late an answer was, how late the loop."""

BREAKER_STATES: Final = ("closed", "open", "half_open")
BOUNDED_STEPS: Final = ("patience", "remote")
DEGRADED_ASSURANCES: Final = (Assurance.CACHED, Assurance.LOCAL)
PROBE_RESULTS: Final = ("success", "failure")
VERDICTS: Final = ("allow", "deny", "unavailable")

# What is shown as 0 before it ever happened. Prometheus counts growth, and what appears at 1 never grew: the first event of a kind
# would be missed. So it is everything that an alert asks about, and what the objectives count.

ATTEMPTS_FROM_THE_START: Final = (
    "valid",
    "invalid",
    "service_credential_refused",
    "identity_mismatch",
    "bad_answer",
    "throttled",
)

DECISIONS_FROM_THE_START: Final[Mapping[tuple[str, Source], Sequence[str]]] = {
    ("allow", Source.REMOTE): (Assurance.LIVE,),
    ("allow", Source.CACHE): (Assurance.CACHED,),
    ("allow", Source.LOCAL): (Assurance.LOCAL,),
    ("allow", Source.PATIENCE): (Assurance.CACHED, Assurance.LOCAL),
    ("allow", Source.FALLBACK): ("degraded_cached", "degraded_local"),
    ("deny", Source.LOCAL): ("token_invalid",),
    ("unavailable", Source.ADMIT): ("overloaded", "rate_limited"),
    ("unavailable", Source.LOCAL): (Cause.KEYSET,),
    ("unavailable", Source.FALLBACK): (*(cause for cause in Cause if cause is not Cause.STORE), "overloaded"),
    ("unavailable", Source.DRAIN): (Code.RESTARTING.lower(),),
    ("unavailable", Source.INTERNAL): (Code.INTERNAL.lower(), Cause.STORE),
}
"""Reasons, by verdict and step."""

Reading = Callable[[], float | None]


class PrometheusMetrics:
    """The `Metrics` of the runtime, in a registry of its own unless one is given.

    The recording methods are cheap: the children of a label set are looked up once and kept.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self._children: dict[tuple[object, tuple[str, ...]], Counter | Histogram] = {}
        decisions = _Decisions()
        self.registry.register(decisions)
        self.decision = decisions.add
        self._attempt_duration = self._histogram(
            "auth_attempt_duration_seconds",
            "One question to the auth service",
            ("issuer", "result"),
            DECISION_BUCKETS,
        )
        self._probe_duration = self._histogram(
            "health_probe_duration_seconds",
            "One health probe of the auth service",
            ("issuer", "result"),
            DECISION_BUCKETS,
        )
        self._waits_bounded = self._counter("wait_bounded", "Answers that we stopped waiting for", "step")
        self._overrun = self._histogram(
            "deadline_overrun_seconds",
            "How far past its deadline a decision was; only late ones are in it",
            (),
            DELAY_BUCKETS,
        )
        self._lag = self._histogram("event_loop_lag_seconds", "How late the event loop ran a timer", (), DELAY_BUCKETS)
        self._breaker_state = self._gauge("breaker_state", "1 for the state that the breaker is in", "issuer", "state")
        self._breaker_transitions = self._counter("breaker_transitions", "Transitions of the breaker", "issuer", "to")
        self._degraded = self._counter(
            "degraded_admits", "Let in while the auth service could not be asked", "assurance"
        )
        self._e2e = self._counter("e2e_admits", "Let in by an E2E test token; in production there is none")
        self._grace = self._counter("expiry_grace", "Sockets kept past their token's expiry in an outage")
        self._untrusted_forwards = self._counter(
            "untrusted_forwards",
            "Handshakes with X-Forwarded-For from a private address that trusted_proxies does not name: all clients behind it "
            "count as one",
        )
        self._revalidations = self._counter("revalidations", "Asked about again after an outage", "result")
        self._keyset_age = self._gauge("keyset_age_seconds", "Since the key set was fetched; NaN without one", "issuer")
        self._feed_age = self._gauge(
            "revocation_feed_age_seconds",
            "Since the start of the last successful poll of the revocation feed; NaN without a feed",
            "issuer",
        )
        for family, labels in (
            (self._waits_bounded, BOUNDED_STEPS),
            (self._degraded, DEGRADED_ASSURANCES),
            (self._revalidations, VERDICTS),
        ):
            for label in labels:
                self._count_of(family, label)

    def begin(self, issuer: str) -> None:
        """Show what is counted by issuer, before anything of it happens."""
        self.breaker(issuer, BREAKER_STATES[0])
        for result in ATTEMPTS_FROM_THE_START:
            self._duration_of(self._attempt_duration, issuer, result)
        for result in PROBE_RESULTS:
            self._duration_of(self._probe_duration, issuer, result)
        for state in BREAKER_STATES:
            self._count_of(self._breaker_transitions, issuer, state)

    def attempt(self, issuer: str, result: str, seconds: float) -> None:
        """One question to the auth service: valid, invalid, or the kind of error."""
        self._duration_of(self._attempt_duration, issuer, result).observe(seconds)

    def probe(self, issuer: str, result: str, seconds: float) -> None:
        """One health probe: success or failure."""
        self._duration_of(self._probe_duration, issuer, result).observe(seconds)

    def wait_bounded(self, step: str) -> None:
        """We stopped waiting for an answer."""
        self._count_of(self._waits_bounded, step).inc()

    def deadline_overrun(self, seconds: float) -> None:
        """A decision was late by this much."""
        self._overrun.observe(seconds)

    def breaker(self, issuer: str, state: str) -> None:
        """The state that the breaker is in now."""
        for name in BREAKER_STATES:
            self._breaker_state.labels(issuer, name).set(name == state)

    def breaker_transition(self, issuer: str, to: str) -> None:
        """The breaker changed its state."""
        self._count_of(self._breaker_transitions, issuer, to).inc()

    def degraded_admit(self, assurance: str) -> None:
        """Let in on cached or local proof, while the auth service could not be asked."""
        self._count_of(self._degraded, assurance).inc()

    def e2e_admit(self) -> None:
        """Let in by an E2E test token."""
        self._e2e.inc()

    def expiry_grace(self) -> None:
        """A socket stays past its token's expiry, because it cannot be refreshed."""
        self._grace.inc()

    def untrusted_forward(self) -> None:
        """Forwarded by a private address that is not trusted: its client cannot be told from the others behind it."""
        self._untrusted_forwards.inc()

    def revalidation(self, result: str) -> None:
        """Asked again about somebody who came in degraded."""
        self._count_of(self._revalidations, result).inc()

    def loop_lag(self, seconds: float) -> None:
        """The event loop ran a timer this much late."""
        self._lag.observe(seconds)

    def watch_issuer(self, issuer: str, *, keyset_age: Reading, feed_age: Reading) -> None:
        """Read these at each scrape. `None`: there is none, shown as NaN, which no alert compares true with."""
        self._keyset_age.labels(issuer).set_function(_number(keyset_age))
        self._feed_age.labels(issuer).set_function(_number(feed_age))

    def watch(self, *, bars: Reading, abandoned_tasks: Reading, connections: Reading) -> None:
        """Read these at each scrape."""
        self._gauges["bars"].set_function(_number(bars))
        self._gauges["abandoned_tasks"].set_function(_number(abandoned_tasks))
        self._gauges["connections"].set_function(_number(connections))

    @cached_property
    def _gauges(self) -> dict[str, Gauge]:
        texts = {
            "bars": "Tokens that were refused once and stay out",
            "abandoned_tasks": "Calls given up on whose clean-up is still running",
            "connections": "Admitted sockets that are open, and guarded HTTP requests that run",
        }
        return {name: self._gauge(name, text) for name, text in texts.items()}

    def _duration_of(self, family: Histogram, *labels: str) -> Histogram:
        child = self._children.get((family, labels))
        if not isinstance(child, Histogram):
            child = self._children[family, labels] = family.labels(*labels)
        return child

    def _count_of(self, family: Counter, *labels: str) -> Counter:
        child = self._children.get((family, labels))
        if not isinstance(child, Counter):
            child = self._children[family, labels] = family.labels(*labels)
        return child

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace="doorward", registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, namespace="doorward", registry=self.registry)

    def _histogram(self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, labels, namespace="doorward", registry=self.registry, buckets=buckets)


class _Tally:
    """Decisions of one kind: how many fell into each bucket, the last of which has no upper edge, and how long they took."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(DECISION_BUCKETS) + 1)
        self.seconds = 0.0


class _Decisions(Collector):
    """Counts and times decisions in one book of plain numbers, and makes both metrics of it when somebody looks.

    There is one entry for each handshake. prometheus_client's own counter and histogram take a lock for each number in it.
    """

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str, str], _Tally] = {
            (verdict, source, reason): _Tally()
            for (verdict, source), reasons in DECISIONS_FROM_THE_START.items()
            for reason in reasons
        }

    def add(self, verdict: str, source: str, reason: str, seconds: float) -> None:
        """One verdict on one opening handshake."""
        tally = self._tallies.get((verdict, source, reason))
        if tally is None:
            tally = self._tallies[verdict, source, reason] = _Tally()
        tally.counts[bisect_left(DECISION_BUCKETS, seconds)] += 1
        tally.seconds += seconds

    def describe(self) -> Iterable[Metric]:
        return self._families()

    def collect(self) -> Iterable[Metric]:
        decisions, durations = self._families()
        tallies = tuple(self._tallies.items())
        for labels, tally in tallies:
            decisions.add_metric(labels, sum(tally.counts))
        for verdict, source in dict.fromkeys((verdict, source) for (verdict, source, _), _ in tallies):
            alike = [tally for labels, tally in tallies if labels[:2] == (verdict, source)]
            durations.add_metric((verdict, source), _cumulative(alike), sum(tally.seconds for tally in alike))
        return decisions, durations

    def _families(self) -> tuple[CounterMetricFamily, HistogramMetricFamily]:
        text = "From the handshake to its verdict; waiting for the client is not in it"
        return (
            CounterMetricFamily(
                "doorward_decisions",
                "Verdicts on opening handshakes and guarded HTTP requests",
                labels=("verdict", "source", "reason"),
            ),
            HistogramMetricFamily("doorward_decision_duration_seconds", text, labels=("verdict", "source")),
        )


def _cumulative(tallies: Sequence[_Tally]) -> list[tuple[str, float]]:
    """The buckets as Prometheus wants them: each with its upper edge, and with everything below it."""
    counts = accumulate(map(sum, zip(*(tally.counts for tally in tallies), strict=True)))
    return list(zip(map(floatToGoString, (*DECISION_BUCKETS, math.inf)), counts, strict=True))


def _number(reading: Reading) -> Callable[[], float]:
    def read() -> float:
        value = reading()
        return math.nan if value is None else float(value)

    return read
