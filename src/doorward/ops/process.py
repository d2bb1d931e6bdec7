"""What the process itself holds, as metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class ProcessCollector(Collector):
    """Read at each scrape, on the loop that answers it."""

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("doorward_tasks", "Tasks of the event loop", value=_tasks())


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # no loop runs here
        return 0
