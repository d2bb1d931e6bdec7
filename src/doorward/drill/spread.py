"""How many clients may come back in one second, if their advice spreads them as it should. Pure.

The law (docs/reference/close-codes.md): the k-th of a crowd that is told to wait comes back after `least + U(0, W)`, where
W = max(window of the row, k / rate). The first in a crowd cannot know how large it will be, so it comes back faster than `rate`
at first: n clients at up to rate * (1 + ln(n / (window * rate))), 261 a second where 2,000 come at rate 100.

So the measured curve is held against the law itself, second by second. Whoever was told to wait comes in a given second with a
probability of at most p = (the part of its wait in it) / W, whatever the others do. The number of those who come is a sum of such
draws, and it is `mu + x` or more with a probability of at most exp(-x^2 / (2 * (mu + x / 3))), mu being the sum of the p. x is
chosen so that a door that keeps the law is blamed in one storm of a million.

Source: D. A. Freedman, "On Tail Probabilities for Martingales" (1975), theorem 1.6; for independent draws it is Bernstein's
inequality.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

FALSE_ALARMS = 1e-6
"""How often a storm at a door that keeps the law is called a bad one."""

REMEMBERED_SECONDS = (30.0, 60.0)
"""Who was told to wait counts for so long, at least and at most (`core/reconnect.py`: two buckets of 30 s)."""


@dataclass(frozen=True, slots=True)
class Told:
    """One client that was told to wait: when it asked and heard, and the smallest and largest wait of its row. Seconds."""

    asked_at: float
    heard_at: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Second:
    """What happened in the second that begins at `at`, what was to be expected, and how much may have been chance."""

    at: float
    count: int
    expected: float
    limit: float


def seconds(
    told: Sequence[Told], returns: Sequence[float], *, rate_per_second: float, lag_seconds: float, origin: float = 0.0
) -> list[Second]:
    """Every second in which somebody came back.

    Args:
        returns: when clients came back; on the same clock as `told`.
        rate_per_second: what the crowd is to be spread out to.
        lag_seconds: a client may have come so much later than it wanted to.
        origin: seconds are counted from here.
    """
    waits = _waits(told, rate_per_second)
    counts = Counter(math.floor(each - origin) for each in returns)
    found = []
    for second, count in sorted(counts.items()):
        begins = origin + second
        expected = sum(wait.share(begins - lag_seconds, begins + 1) for wait in waits)
        found.append(Second(float(second), count, expected, expected + margin(expected, bins=len(counts))))
    return found


def margin(expected: float, *, bins: int) -> float:
    """How many more may come by chance in one of so many seconds."""
    surprise = math.log(max(bins, 1) / FALSE_ALARMS)
    return surprise / 3 + math.sqrt(surprise**2 / 9 + 2 * surprise * expected)


@dataclass(frozen=True, slots=True)
class _Wait:
    """Uniform over a width that is known only to lie between two numbers."""

    begins: float
    narrow: float
    wide: float

    def share(self, start: float, end: float) -> float:
        """The largest probability that it ends in here, for any of the widths."""
        first, last = max(start - self.begins, 0.0), min(end - self.begins, self.wide)
        return (last - first) / max(self.narrow, last) if last > first else 0.0


def _waits(told: Sequence[Told], rate_per_second: float) -> list[_Wait]:
    """Who was counted before whom is known but for those who were under way at the same time."""
    asked, heard = sorted(each.asked_at for each in told), sorted(each.heard_at for each in told)
    surely, perhaps = REMEMBERED_SECONDS
    waits = []
    for each in told:
        at_least = bisect_right(heard, each.asked_at) - bisect_left(asked, each.heard_at - surely) + 1
        at_most = bisect_right(asked, each.heard_at) - bisect_left(heard, each.asked_at - perhaps)
        window = each.most - each.least
        narrow, wide = (max(window, number / rate_per_second) for number in (at_least, at_most))
        waits.append(_Wait(each.heard_at + each.least, narrow, wide))
    return waits
