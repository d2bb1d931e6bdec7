"""Asks `/auth/health` in the background, for the eyes and the alerts. It opens and closes nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from doorward.core.backoff import jittered
from doorward.core.deadline import Deadline
from doorward.core.health import Health
from doorward.errors import BackendError
from doorward.runtime.bounded import Reaper, bounded
from doorward.runtime.history import KEPT_CHANGES, Change
from doorward.runtime.log import get_logger
from doorward.runtime.ports import Clock, HealthProbe
from doorward.runtime.telemetry import Metrics

PROBE_SECONDS = 0.5
EVERY_SECONDS = 5.0
EVERY_SECONDS_IN_OUTAGE = 1.0

log = get_logger("doorward")


class HealthMonitor:
    """Args: issuer: the name of the one whose auth service it is."""

    def __init__(
        self,
        issuer: str,
        probe: HealthProbe,
        metrics: Metrics,
        *,
        clock: Clock,
        reaper: Reaper,
        uniform: Callable[[], float],
        in_outage: Callable[[], bool],
    ) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.health = Health()
        self.changes: deque[Change] = deque(maxlen=KEPT_CHANGES)
        self.failing_since: float | None = None
        """Wall-clock second of the first of the probes that failed in a row; `None` after a good one."""
        self.last_ms: float | None = None
        self.last_error: str | None = None
        self._issuer = issuer
        self._probe = probe
        self._metrics = metrics
        self._clock = clock
        self._reaper = reaper
        self._uniform = uniform
        self._in_outage = in_outage

    async def run(self) -> None:
        while True:
            await self.check()
            every = EVERY_SECONDS_IN_OUTAGE if self._in_outage() else EVERY_SECONDS
            await asyncio.sleep(jittered(every, spread=0.2, uniform=self._uniform()))

    async def check(self) -> None:
        """One probe, at most half a second."""
        began, wall = self._clock.monotonic(), self._clock.wall()
        deadline = Deadline.after(began, PROBE_SECONDS)
        error: str | None = None
        try:
            await bounded(self._probe.probe(deadline=deadline), deadline, clock=self._clock, reaper=self._reaper)
        except BackendError as problem:
            error = f"{type(problem).__name__}: {problem}"
        seconds = self._clock.monotonic() - began
        self.last_ms, self.last_error = round(seconds * 1000, 1), error
        self.failing_since = None if error is None else self.failing_since or wall
        self._metrics.probe(self._issuer, "failure" if error else "success", seconds)
        before = self.health.condition
        if self.health.record(succeeded=error is None):
            self.changes.append(Change(self._clock.wall(), before, self.health.condition))
            log.info(
                "auth service health",
                issuer=self._issuer,
                condition=self.health.condition.value,
                ms=self.last_ms,
                error=error,
            )
            self.on_change()
