"""When is a door well again? When good answers come one after the other. Pure: the time of each is an argument."""

from __future__ import annotations


class Streak:
    """So many good answers in a row; a bad one breaks the row. One late good answer is no recovery.

    Args:
        needed: how many make it whole.
        until: monotonic second by which the row must have begun.
    """

    def __init__(self, needed: int, *, until: float) -> None:
        self._needed = needed
        self._until = until
        self._length = 0
        self._began_at: float | None = None

    def add(self, *, good: bool, at: float) -> None:
        self._length = self._length + 1 if good else 0
        if self._length <= 1:
            self._began_at = at if good else None

    def goes_on(self, now: float) -> bool:
        """Is another answer worth asking for? A row that began in time may be finished after it."""
        return self._length < self._needed and (now < self._until or self._length > 0)

    @property
    def began_at(self) -> float | None:
        """When the first answer of a whole row came; `None` without a whole row."""
        return self._began_at if self._length >= self._needed else None
