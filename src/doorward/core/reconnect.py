"""How long refused clients are told to wait, so that they do not all come back at once."""

from __future__ import annotations

MAX_SECONDS = 300.0


def retry_after(
    window: tuple[float, float],
    *,
    waiting: int,
    rate_per_second: float,
    uniform: float,
    asked_seconds: float | None = None,
) -> float:
    """Row minimum + U(0, W), where W is the row's window or the time that the crowd needs, whichever is longer.

    Args:
        window: smallest and largest wait of the row, seconds.
        waiting: clients that were told to wait and have not come back yet.
        rate_per_second: how many reconnects this process takes.
        uniform: a number in [0, 1).
        asked_seconds: a wait that somebody upstream asked for; it lifts the minimum, up to the window's end.
    """
    least, most = window
    if asked_seconds is not None:
        least = min(max(least, asked_seconds), most)
    width = max(most - least, waiting / rate_per_second)
    return min(least + width * uniform, MAX_SECONDS)


class Crowd:
    """Counts clients that were told to wait. Each leaves the count when its wait is over.

    Two buckets of a fixed length rather than a timer for each client: the count is right to within one bucket.
    """

    def __init__(self, *, bucket_seconds: float = 30.0) -> None:
        self._bucket_seconds = bucket_seconds
        self._bucket = 0
        self._current = 0
        self._previous = 0

    def told_to_wait(self, now: float) -> None:
        self._roll(now)
        self._current += 1

    def waiting(self, now: float) -> int:
        self._roll(now)
        return self._current + self._previous

    def _roll(self, now: float) -> None:
        bucket = int(now / self._bucket_seconds)
        if bucket == self._bucket:
            return
        self._previous = self._current if bucket == self._bucket + 1 else 0
        self._current = 0
        self._bucket = bucket
