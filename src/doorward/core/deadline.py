"""One absolute point in time that every step of a decision shares."""

from __future__ import annotations

import msgspec


class Deadline(msgspec.Struct, frozen=True, gc=False):
    """Monotonic seconds at which the answer must be out. Made once, passed down, never restarted."""

    at: float

    @classmethod
    def after(cls, now: float, seconds: float) -> Deadline:
        return cls(now + seconds)

    def remaining(self, now: float) -> float:
        """Seconds left, never negative."""
        return max(self.at - now, 0.0)

    def expired(self, now: float) -> bool:
        return now >= self.at

    def clipped(self, now: float, cap_seconds: float) -> float:
        """The phase cap, shortened to what is left."""
        return min(cap_seconds, self.remaining(now))

    def earlier(self, at: float) -> Deadline:
        """The earlier of this one and `at`."""
        return self if self.at <= at else Deadline(at)
