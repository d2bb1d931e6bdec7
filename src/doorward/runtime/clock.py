"""Real time. Wall time never moves back within a process, because token expiry hangs on it."""

from __future__ import annotations

import time
from collections.abc import Callable


class SystemClock:
    """`monotonic` has the origin of the event loop's clock (CLOCK_MONOTONIC), and no coarser steps."""

    def __init__(
        self, *, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self.monotonic = monotonic
        self._wall = wall
        self._latest = 0.0

    def wall(self) -> float:
        now = self._wall()
        if now < self._latest:
            return self._latest
        self._latest = now
        return now
