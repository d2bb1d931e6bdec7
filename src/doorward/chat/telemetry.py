"""What the chat backend counts. Labels are closed sets; never a user, a thread or a token."""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from doorward.chat.mailbox import Ending
from doorward.chat.outbox import Slow
from doorward.chat.subscription import Start
from doorward.core.verdict import Code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Shown as 0 before the first, which would not be seen to have come otherwise.
CLOSING_CODES = (Code.MESSAGE_TOO_BIG, Code.OVERLOADED, Code.SERVICE_UNAVAILABLE, Code.INTERNAL)
FORWARD_RESULTS = ("answered", "refused", "deadline", "upstream", "config", "overloaded")

COMMIT_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
DELIVERY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class ChatTelemetry:
    """Counters in `registry`; without one they are kept and shown nowhere."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = registry or CollectorRegistry()
        self._runs = Counter("doorward_chat_runs_total", "Runs that ended", ["ending"], registry=registry)
        self._active = Gauge("doorward_chat_runs_active", "Runs that go on now", registry=registry)
        self._sockets = Gauge("doorward_chat_sockets", "Open chat sockets", registry=registry)
        self._closed = Counter(
            "doorward_chat_sockets_closed_total",
            "Chat sockets closed by the server, by code word",
            ["code"],
            registry=registry,
        )
        self._slow = Counter(
            "doorward_chat_slow_readers_total",
            "Chat sockets closed because they do not read",
            ["why"],
            registry=registry,
        )
        self._subscriptions = Counter(
            "doorward_chat_subscriptions_total",
            "Followings of a thread, by where they began; all but resumed begin with a snapshot",
            ["start"],
            registry=registry,
        )
        self._unsent = Gauge(
            "doorward_chat_unsent_bytes",
            "What waits to be sent on all chat sockets together; at most chat.unsent_bytes",
            registry=registry,
        )
        self._commits = Histogram(
            "doorward_chat_commit_seconds",
            "One commit of events to the log, its wait for the database's thread included",
            registry=registry,
            buckets=COMMIT_BUCKETS,
        )
        self._deliveries = _Deliveries()
        registry.register(self._deliveries)
        self._forwarded = Counter(
            "doorward_chat_auth_forwards_total",
            "Requests passed on to the auth service",
            ["result"],
            registry=registry,
        )
        self._show_from_the_start()

    def _show_from_the_start(self) -> None:
        for ending in Ending:
            self._runs.labels(ending.value)
        for why in Slow:
            self._slow.labels(why.value)
        for start in Start:
            self._subscriptions.labels(start.value)
        for code in CLOSING_CODES:
            self._closed.labels(code.value)
        for result in FORWARD_RESULTS:
            self._forwarded.labels(result)

    def run_started(self) -> None:
        self._active.inc()

    def run_ended(self, ending: Ending) -> None:
        self._active.dec()
        self._runs.labels(ending.value).inc()

    def socket_opened(self) -> None:
        self._sockets.inc()

    def socket_gone(self) -> None:
        self._sockets.dec()

    def socket_closed(self, code: str) -> None:
        self._closed.labels(code).inc()

    def slow_reader(self, why: Slow) -> None:
        self._slow.labels(why.value).inc()

    def subscribed(self, start: Start) -> None:
        self._subscriptions.labels(start.value).inc()

    def watch_unsent(self, read: Callable[[], int]) -> None:
        """Read this at each scrape."""
        self._unsent.set_function(read)

    def committed(self, seconds: float) -> None:
        self._commits.observe(seconds)

    def delivered(self, seconds: float) -> None:
        """An event that happened while it was followed was handed to the server, so long after its commit began."""
        self._deliveries.add(seconds)

    def forwarded(self, result: str) -> None:
        self._forwarded.labels(result).inc()


class _Deliveries(Collector):
    """A histogram in plain numbers: each event on each socket is in it, and prometheus_client's takes a lock for each."""

    def __init__(self) -> None:
        self._counts = [0] * (len(DELIVERY_BUCKETS) + 1)
        self._seconds = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(DELIVERY_BUCKETS, seconds)] += 1
        self._seconds += seconds

    def collect(self) -> Iterable[HistogramMetricFamily]:
        edges = map(floatToGoString, (*DELIVERY_BUCKETS, math.inf))
        family = HistogramMetricFamily(
            "doorward_chat_delivery_seconds",
            "From the commit of an event until the server took it for a socket that follows its thread; replays are not in it",
        )
        family.add_metric((), list(zip(edges, accumulate(self._counts), strict=True)), self._seconds)
        yield family
