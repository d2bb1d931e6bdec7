"""Keys that all wait equally long, so that the one that came first is due first and no key needs a timer of its own."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")


class Countdown(Generic[K]):
    """Every operation is O(1) but `pop_due`, which is O(what is due). `now` in monotonic seconds, never going back."""

    __slots__ = ("seconds", "waiting")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.waiting: OrderedDict[K, float] = OrderedDict()
        """When each is due, the first one first. To be read only."""

    def __len__(self) -> int:
        return len(self.waiting)

    def start(self, key: K, now: float) -> float:
        """Begin, or begin again, the wait of `key`. Returns when it is due."""
        due = self.waiting[key] = now + self.seconds
        self.waiting.move_to_end(key)
        return due

    def stop(self, key: K) -> None:
        """Forget `key`, if it waits."""
        self.waiting.pop(key, None)

    def next_due(self) -> float | None:
        """When the next key is due; `None` while nobody waits."""
        return next(iter(self.waiting.values()), None)

    def pop_due(self, now: float) -> list[K]:
        """Take out all that is due, oldest first."""
        due: list[K] = []
        while self.waiting and next(iter(self.waiting.values())) <= now:
            due.append(self.waiting.popitem(last=False)[0])
        return due
