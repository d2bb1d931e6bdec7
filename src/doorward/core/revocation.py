"""Revocations from the feed, and bars: tokens that the auth service itself once refused.

Both outlive an outage and a restart, and both say no before any fallback is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from doorward.core.limits import Lane
from doorward.core.verdict import Principal


class RevocationSet:
    """By token id, session, or user and time. Each entry may be forgotten after a wall-clock second."""

    def __init__(self) -> None:
        self._jtis: dict[str, float] = {}
        self._sessions: dict[str, float] = {}
        self._users: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._jtis) + len(self._sessions) + len(self._users)

    def revoke_jti(self, jti: str, forget_at: float) -> None:
        self._jtis[jti] = max(forget_at, self._jtis.get(jti, 0.0))

    def revoke_session(self, session_id: str, forget_at: float) -> None:
        self._sessions[session_id] = max(forget_at, self._sessions.get(session_id, 0.0))

    def revoke_user(self, user_id: str, not_before: float, forget_at: float) -> None:
        """Every token of the user that was issued at or before `not_before` (wall-clock seconds)."""
        known_before, known_forget = self._users.get(user_id, (0.0, 0.0))
        self._users[user_id] = (max(not_before, known_before), max(forget_at, known_forget))

    def is_revoked(self, principal: Principal, good_at: float | None = None) -> bool:
        """Args: good_at: wall-clock second of its last live *valid*, which stands in for `iat` where a token has none."""
        if not (self._users or self._jtis or self._sessions):
            return False
        if principal.jti in self._jtis or principal.session_id in self._sessions:
            return True
        found = self._users.get(principal.user_id)
        if found is None:
            return False
        issued_at = principal.issued_at if principal.issued_at is not None else good_at
        return issued_at is None or issued_at <= found[0]

    def forget(self, wall_now: float) -> None:
        self._jtis = {key: until for key, until in self._jtis.items() if until > wall_now}
        self._sessions = {key: until for key, until in self._sessions.items() if until > wall_now}
        self._users = {key: entry for key, entry in self._users.items() if entry[1] > wall_now}


@dataclass(slots=True)
class Bars:
    """Digests of tokens that were refused live, each until a wall-clock second.

    Counted by lane: a stranger can fill the unproven one with random strings, and must not thereby switch off what the
    proven one protects. A lane that overflowed is incomplete, and admits nobody degraded, until its bars have run out.
    """

    capacity: int = 200_000
    _until: dict[bytes, tuple[float, Lane]] = field(default_factory=dict)
    _counts: dict[Lane, int] = field(default_factory=lambda: dict.fromkeys(Lane, 0))
    _overflow_until: dict[Lane, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._until)

    def add(self, digest: bytes, until: float, lane: Lane) -> bool:
        """False if there was no room: the lane is incomplete from now on."""
        if digest not in self._until and self._counts[lane] >= self.capacity:
            self.overflowed(until, lane)
            return False
        self.lift(digest)
        self._until[digest] = (until, lane)
        self._counts[lane] += 1
        return True

    def overflowed(self, until: float, lane: Lane) -> None:
        """There was no room for a bar that holds until then, here or in an earlier run."""
        self._overflow_until[lane] = max(until, self._overflow_until.get(lane, 0.0))

    def lift(self, digest: bytes) -> bool:
        """The auth service said *valid* again. True if there was a bar."""
        found = self._until.pop(digest, None)
        if found is not None:
            self._counts[found[1]] -= 1
        return found is not None

    def holds(self, digest: bytes, wall_now: float) -> bool:
        found = self._until.get(digest)
        return found is not None and wall_now < found[0]

    def complete(self, lane: Lane, wall_now: float) -> bool:
        return wall_now >= self._overflow_until.get(lane, 0.0)

    def forget(self, wall_now: float) -> None:
        for digest in [digest for digest, (until, _) in self._until.items() if until <= wall_now]:
            self.lift(digest)
