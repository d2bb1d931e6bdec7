"""What happened lately, in bounded books: how long decisions took, and when something changed its state."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

COLUMN_SECONDS = 5.0
COLUMNS = 120
"""Ten minutes."""

KEPT_CHANGES = 200
EDGES_MS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0)
"""Upper edges of the heat map's rows, the edge itself included; one more row is above the last."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something went from one state to another. `at` wall-clock seconds."""

    at: float
    before: str
    after: str


@dataclass(slots=True)
class Column:
    """The decisions of `COLUMN_SECONDS` from `at` on, wall-clock seconds: how many took how long, and what they were."""

    at: float
    counts: list[int] = field(default_factory=lambda: [0] * (len(EDGES_MS) + 1))
    verdicts: Counter[str] = field(default_factory=Counter)


class LatencyHistory:
    """A heat map in the making: O(1) for each decision, whatever the traffic."""

    def __init__(self) -> None:
        self._columns: deque[Column] = deque(maxlen=COLUMNS)
        self._ends_at = 0.0
        """Of the newest one."""

    def add(self, at: float, ms: float, verdict: str) -> None:
        """Args: at: wall-clock seconds, never going back."""
        if at >= self._ends_at:
            start = at // COLUMN_SECONDS * COLUMN_SECONDS
            self._columns.append(Column(start))
            self._ends_at = start + COLUMN_SECONDS
        column = self._columns[-1]
        column.counts[bisect_left(EDGES_MS, ms)] += 1
        column.verdicts[verdict] += 1

    def columns(self, since: float) -> Sequence[Column]:
        """Oldest first; columns without a decision are left out."""
        return [column for column in self._columns if column.at + COLUMN_SECONDS > since]
