"""What is said about the connection, and when: a blink of an eye without one is nobody's business. Pure."""

from __future__ import annotations

from doorward.client.states import State, StateName
from doorward.client.words import in_words, trouble

BLINK_SECONDS = 1.0


class Weather:
    """Times in monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._state = State(StateName.CONNECTING)
        self._away_since: float | None = now
        self._was_told = False
        self._was_degraded = False

    def changed(self, state: State, now: float) -> str | None:
        """A new state; something to say about it once, if there is."""
        before, self._state = self._state, state
        if not state.is_in:
            self._away_since = now if before.is_in else self._away_since
            return None
        self._away_since = None
        was_told, self._was_told = self._was_told, False
        was_degraded, self._was_degraded = self._was_degraded, state.name is StateName.DEGRADED
        if self._was_degraded:
            words = in_words(state, wall_now=0.0)
            return None if was_degraded and before.door == state.door else words
        if was_degraded:
            return "All is normal again."
        return "Connected again." if was_told else None

    def banner(self, now: float, *, wall_now: float) -> str:
        """To be shown as long as it lasts, with a countdown; empty where there is nothing to say."""
        if not self._is_long(now) or self._state.is_over:
            return ""
        self._was_told = True
        return in_words(self._state, wall_now=wall_now)

    def news(self, now: float) -> str | None:
        """To be said once, where nothing can be shown for as long as it lasts."""
        reason = self._state.reason
        if self._was_told or not self._is_long(now) or self._state.is_over or reason is None:
            return None
        self._was_told = True
        return f"{trouble(reason)} It is tried again until it works."

    def _is_long(self, now: float) -> bool:
        return self._away_since is not None and now - self._away_since >= BLINK_SECONDS
