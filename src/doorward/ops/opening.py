"""The books of the opening handshake, as metrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from doorward.asgi.opening import Cut, OpeningCounters


class OpeningCollector(Collector):
    """Read at each scrape; nothing is counted twice."""

    def __init__(self, counters: OpeningCounters) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        counters = self._counters
        yield GaugeMetricFamily(
            "doorward_server_connections", "TCP connections that are open", value=counters.connections
        )
        yield GaugeMetricFamily(
            "doorward_incomplete_handshakes", "Connections whose request is not complete", value=counters.incomplete
        )
        yield CounterMetricFamily(
            "doorward_headers_too_large", "Requests refused with 431", value=counters.headers_too_large
        )
        yield CounterMetricFamily("doorward_malformed_requests", "Requests refused with 400", value=counters.malformed)
        cut = CounterMetricFamily("doorward_connections_cut", "Connections cut by the server", labels=["reason"])
        for reason in Cut:
            cut.add_metric([reason.value], counters.cut[reason])
        yield cut
