"""How late the event loop is: the one thing that a deadline on it cannot bound, so it is measured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

EVERY_SECONDS = 0.05


class LoopLag:
    """A timer that re-arms itself and reports how late it came, in seconds."""

    def __init__(self, report: Callable[[float], None], monotonic: Callable[[], float]) -> None:
        self._report = report
        self._monotonic = monotonic
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0

    def start(self) -> None:
        self._arm()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self) -> None:
        self._due = self._monotonic() + EVERY_SECONDS
        self._handle = asyncio.get_running_loop().call_later(EVERY_SECONDS, self._tick)

    def _tick(self) -> None:
        self._report(max(self._monotonic() - self._due, 0.0))
        self._arm()
