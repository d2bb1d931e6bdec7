"""Who is to be woken at which second of the wall clock: one timer for thousands of sleepers, most of whom leave before their time.

A timer of its own for each open connection costs half a KiB and a call into the event loop when it opens and when it closes.
"""

from __future__ import annotations

import asyncio
from math import inf, isnan
from typing import Protocol

from doorward.runtime.ports import Clock

SPAN_SECONDS = 8
"""Sleepers are kept by spans of so long; a timer of its own is set for each only when its span has begun."""

LOOK_SECONDS = 15.0
"""The wall clock is looked at so often: it may go forward by itself, as after the host was suspended."""


class Sleeper(Protocol):
    """Somebody who waits for a time. Compared and hashed by identity."""

    @property
    def wake_at(self) -> float | None:
        """Wall-clock seconds; `None`: not any more."""
        ...

    def wake(self) -> None:
        """It is time. May come when it is not, which must do no harm."""
        ...


class Wakes:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._spans: dict[float, set[Sleeper]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_span = 0.0

    def __len__(self) -> int:
        return sum(map(len, self._spans.values()))

    def add(self, sleeper: Sleeper, at: float) -> None:
        """Wake it at this second, or at once if that has passed; at infinity never.

        Raises:
            ValueError: NaN is no time, and a timer of it would spoil the order of all others.
        """
        if isnan(at):
            raise ValueError("a sleeper cannot be woken at NaN")
        if at == inf:
            return
        span = at // SPAN_SECONDS
        found = self._spans.get(span)
        if found is not None:
            found.add(sleeper)
        elif at - self._clock.wall() < SPAN_SECONDS:
            self._call(sleeper, at)
        else:
            self._spans[span] = {sleeper}
            self._arm(span)

    def discard(self, sleeper: Sleeper, at: float) -> None:
        """Args: at: as it was added. One whose span has begun is woken all the same."""
        span = at // SPAN_SECONDS
        found = self._spans.get(span)
        if found is not None:
            found.discard(sleeper)
            if not found:
                del self._spans[span]

    def aclose(self) -> None:
        """Wake nobody any more, but for those whose span has begun."""
        self._spans.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, span: float) -> None:
        if self._timer is not None:
            if self._timer_span <= span:
                return
            self._timer.cancel()
        self._timer_span = span
        delay = min(max(span * SPAN_SECONDS - self._clock.wall(), 0.0), LOOK_SECONDS)
        self._timer = asyncio.get_running_loop().call_later(delay, self._begin)

    def _begin(self) -> None:
        """Spans may have begun; the wall clock may have been set meanwhile, either way."""
        self._timer = None
        now = self._clock.wall()
        for span in [each for each in self._spans if each * SPAN_SECONDS <= now]:
            for sleeper in self._spans.pop(span):
                if sleeper.wake_at is not None:
                    self._call(sleeper, sleeper.wake_at)
        if self._spans:
            self._arm(min(self._spans))

    def _call(self, sleeper: Sleeper, at: float) -> None:
        """Within its span, which is shorter than the time between two looks at the clock."""
        asyncio.get_running_loop().call_later(max(at - self._clock.wall(), 0.0), sleeper.wake)
