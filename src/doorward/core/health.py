"""Healthy or unhealthy, from the outcomes of background probes. For the eyes and the alerts: it decides no handshake."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Condition(StrEnum):
    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(slots=True)
class Health:
    """Unhealthy after `failures` bad probes in a row, healthy after `successes` good ones; the first probe decides at once."""

    failures: int = 3
    successes: int = 2
    condition: Condition = Condition.UNKNOWN
    was_healthy: bool = False
    """False for a service that has no health page at all: its silence there says nothing."""
    _streak: int = 0

    @property
    def has_turned_bad(self) -> bool:
        return self.was_healthy and self.condition is Condition.UNHEALTHY

    def record(self, *, succeeded: bool) -> bool:
        """Returns: whether the condition changed."""
        self.was_healthy = self.was_healthy or succeeded
        target = Condition.HEALTHY if succeeded else Condition.UNHEALTHY
        if self.condition is target:
            self._streak = 0
            return False
        self._streak += 1
        needed = self.successes if succeeded else self.failures
        if self.condition is not Condition.UNKNOWN and self._streak < needed:
            return False
        self.condition, self._streak = target, 0
        return True
