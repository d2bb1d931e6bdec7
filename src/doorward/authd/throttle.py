"""Token buckets by key: slows guessing down, and never locks anybody out for good. Pure."""

from __future__ import annotations

from collections import OrderedDict

MAX_KEYS = 50_000


class Buckets:
    """For each key at most `burst` at once and `rate_per_second` on average. Monotonic seconds.

    Past `max_keys` the one that was quiet longest is forgotten, which is the one most likely full again.
    """

    def __init__(self, rate_per_second: float, burst: float, *, max_keys: int = MAX_KEYS) -> None:
        self.rate_per_second = rate_per_second
        self.burst = burst
        self.max_keys = max_keys
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now: float) -> float:
        """Take one. Returns 0 if there was one, else the seconds until there is."""
        level = self._level(key, now)
        if level < 1:
            return (1 - level) / self.rate_per_second
        self._keep(key, level - 1, now)
        return 0.0

    def give_back(self, key: str, now: float) -> None:
        """What was taken turned out not to count."""
        self._keep(key, min(self._level(key, now) + 1, self.burst), now)

    def _level(self, key: str, now: float) -> float:
        level, at = self._levels.get(key, (self.burst, now))
        return min(self.burst, level + max(now - at, 0.0) * self.rate_per_second)

    def _keep(self, key: str, level: float, now: float) -> None:
        self._levels[key] = (level, now)
        self._levels.move_to_end(key)
        if len(self._levels) > self.max_keys:
            self._levels.popitem(last=False)


class Familiar:
    """Which addresses signed in to which account lately. A guesser elsewhere cannot use up what these may try."""

    def __init__(self, *, max_pairs: int = MAX_KEYS) -> None:
        self.max_pairs = max_pairs
        self._pairs: OrderedDict[tuple[str, str], None] = OrderedDict()

    def note(self, account: str, address: str) -> None:
        self._pairs[account, address] = None
        self._pairs.move_to_end((account, address))
        if len(self._pairs) > self.max_pairs:
            self._pairs.popitem(last=False)

    def bucket_of(self, account: str, address: str) -> str:
        """The account's own bucket, or one for this pair if the address is familiar."""
        return f"{account}\n{address}" if (account, address) in self._pairs else account
