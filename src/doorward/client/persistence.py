"""What comes after a line that was lost: another attempt, and when, or none. Pure: the chance is passed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from doorward.core.backoff import next_delay
from doorward.core.verdict import Action

if TYPE_CHECKING:
    from doorward.client.meaning import Reason
    from doorward.client.timing import Timing


@dataclass(frozen=True, slots=True)
class Again:
    """Try again in `wait_seconds`; whoever insists may do so after `least_seconds`, which the server named."""

    wait_seconds: float
    least_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Trying again would change nothing."""


class Persistence:
    """Counts what went wrong in a row. A connection that lasted wipes the count."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._was_ever_in = False
        self.failures = 0
        self._refusals = 0

    def lost(self, reason: Reason, *, lasted_seconds: float | None, uniform: float) -> Again | GiveUp:
        """What to do now.

        Cases: trying again is no use; the token was refused (at once, with another one; should that be refused too, ever more
        slowly); anything else: full jitter, but never before the server allows it.

        Args:
            lasted_seconds: since we were let in; `None`: we never were.
            uniform: a number in [0, 1).
        """
        if lasted_seconds is not None:
            self._was_ever_in = True
            if lasted_seconds >= self._timing.stable_after_seconds:
                self.failures = self._refusals = 0
        if reason.action is Action.STOP and not self._is_in_between(reason):
            return GiveUp()
        if reason.action is Action.SIGN_IN:
            self._refusals += 1
            if self._refusals == 1:
                return Again(0.0)
        return self._later(reason, uniform)

    def _is_in_between(self, reason: Reason) -> bool:
        """Where there was a chat before, a "not found" of somebody else is a deployment that is going on."""
        return reason.code == "HTTP_404" and self._was_ever_in

    def _later(self, reason: Reason, uniform: float) -> Again:
        timing = self._timing
        delay = next_delay(
            self.failures,
            base_seconds=timing.backoff_base_seconds,
            cap_seconds=timing.backoff_cap_seconds,
            uniform=uniform,
        )
        self.failures += 1
        least = reason.retry_after_seconds or 0.0
        return Again(max(delay, least), least)
