"""Full-jitter exponential back-off. The random number is passed in.

Source: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations


def next_delay(attempt: int, *, base_seconds: float, cap_seconds: float, uniform: float) -> float:
    """Seconds to wait before the next try.

    Args:
        attempt: 0 for the first wait.
        uniform: a number in [0, 1).
    """
    return float(min(cap_seconds, base_seconds * 2 ** min(attempt, 62)) * uniform)


def jittered(seconds: float, *, spread: float, uniform: float) -> float:
    """`seconds` +- `spread` (0.2 is 20 %)."""
    return seconds * (1 + spread * (2 * uniform - 1))
