"""Keys that all wait equally long, so that the one that came first is due first and no key needs a timer of its own."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")


class Countdown(Generic[K]):
    """Every operation is O(1) but `pop_due`, which is O(what is due). `now` in monotonic seconds, never going back."""

    __slots__ = ("_due", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._due: OrderedDict[K, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._due)

    def start(self, key: K, now: float) -> None:
        """Begin, or begin again, the wait of `key`."""
        self._due[key] = now + self.seconds
        self._due.move_to_end(key)

    def stop(self, key: K) -> None:
        """Forget `key`, if it waits."""
        self._due.pop(key, None)

    def next_due(self) -> float | None:
        """When the next key is due; `None` while nobody waits."""
        return next(iter(self._due.values()), None)

    def pop_due(self, now: float) -> list[K]:
        """Take out all that is due, oldest first."""
        due: list[K] = []
        while self._due and next(iter(self._due.values())) <= now:
            due.append(self._due.popitem(last=False)[0])
        return due
