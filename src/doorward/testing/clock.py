"""Clocks that move only when told."""

from __future__ import annotations

from doorward.errors import UsageError

START_MONOTONIC = 1_000.0
START_WALL = 1_750_000_000.0


class ManualClock:
    """Implements the `Clock` port; time stands still until `advance`.

    Args:
        monotonic: first reading in seconds; not 0, so that a forgotten time-stamp shows.
        wall: first reading in wall seconds.
    """

    def __init__(self, *, monotonic: float = START_MONOTONIC, wall: float = START_WALL) -> None:
        self._monotonic = monotonic
        self._wall = wall

    def monotonic(self) -> float:
        return self._monotonic

    def wall(self) -> float:
        return self._wall

    def advance(self, seconds: float) -> float:
        """Let both clocks run on; returns the new monotonic reading."""
        if seconds < 0:
            raise UsageError("time does not run backwards; use shift_wall for a wall clock that was set back")
        self._monotonic += seconds
        self._wall += seconds
        return self._monotonic

    def shift_wall(self, seconds: float) -> None:
        """Set the wall clock alone, forwards or back, as an operator or NTP does."""
        self._wall += seconds
