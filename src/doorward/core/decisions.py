"""The verdict cache: what the auth service said of a token, while it is fresh, and as a fallback while it is stale.

Errors are never cached. A negative verdict lives in a map of its own, so that strangers cannot push good ones out.
Source: RFC 5861 (stale-while-revalidate, stale-if-error), RFC 9111 (fresh, stale).
"""

from __future__ import annotations

from dataclasses import dataclass

from doorward.core.lru import Lru
from doorward.core.verdict import Allow, Assurance, Principal, Source


class TokenKey(bytes):
    """A token, known by its keyed digest of 32 bytes."""

    __slots__ = ()

    @property
    def shown(self) -> str:
        """Short form for logs and pages; means nothing outside this process."""
        return self[:6].hex()


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """Seconds and entries. A positive verdict is fresh for min(expiry, the service's hint, `positive_seconds`)."""

    positive_seconds: float = 60.0
    negative_seconds: float = 5.0
    positive_entries: int = 32_768
    negative_entries: int = 4_096
    refresh_ahead: float = 0.8


@dataclass(slots=True)
class Entry:
    """A live *valid*. `fresh_until` and `refresh_at` monotonic, `validated_at` wall-clock seconds.

    `admission`: the one verdict for all who come in with it.
    """

    admission: Allow
    validated_at: float
    fresh_until: float
    refresh_at: float

    @property
    def principal(self) -> Principal:
        return self.admission.principal

    def is_fresh(self, now: float, wall_now: float) -> bool:
        """Expiry of the token itself ends freshness too."""
        if now >= self.fresh_until:
            return False
        expires_at = self.admission.principal.expires_at
        return expires_at is None or wall_now < expires_at


class VerdictCache:
    def __init__(self, policy: CachePolicy) -> None:
        self.policy = policy
        self._valid: Lru[TokenKey, Entry] = Lru(policy.positive_entries)
        self._invalid: Lru[TokenKey, float] = Lru(policy.negative_entries)
        self.known = self._valid.get
        """The entry, fresh or stale: a fallback whose age `degrade` judges."""

    def claim_refresh(self, entry: Entry, now: float) -> bool:
        """Is it time to ask again before the entry goes stale? True for one caller a period."""
        if now < entry.refresh_at:
            return False
        entry.refresh_at = entry.fresh_until
        return True

    def is_rejected(self, key: TokenKey, now: float) -> bool:
        until = self._invalid.get(key)
        return until is not None and now < until

    def put_valid(
        self, key: TokenKey, principal: Principal, *, now: float, wall_now: float, hint_seconds: float | None
    ) -> None:
        lifetime = self.policy.positive_seconds
        if hint_seconds is not None:
            lifetime = min(lifetime, hint_seconds)
        if principal.expires_at is not None:
            lifetime = min(lifetime, max(principal.expires_at - wall_now, 0.0))
        refresh_at = now + lifetime * self.policy.refresh_ahead
        admission = Allow(principal, Assurance.CACHED, Source.CACHE)
        self._valid.put(key, Entry(admission, wall_now, now + lifetime, refresh_at))
        self._invalid.drop(key)

    def put_invalid(self, key: TokenKey, *, now: float) -> None:
        self._valid.drop(key)
        self._invalid.put(key, now + self.policy.negative_seconds)
