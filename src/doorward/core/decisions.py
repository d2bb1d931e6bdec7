"""The verdict cache: what the auth service said of a token, while it is fresh, and as a fallback while it is stale.

Errors are never cached. A negative verdict lives in a map of its own, so that strangers cannot push good ones out.
Source: RFC 5861 (stale-while-revalidate, stale-if-error), RFC 9111 (fresh, stale).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from doorward.core.lru import Lru
from doorward.core.verdict import Principal


class TokenKey(NamedTuple):
    """A token, known by two halves of a keyed digest: one finds the entry, the other confirms it."""

    slot: bytes
    fingerprint: bytes

    @property
    def shown(self) -> str:
        """Short form for logs and pages; means nothing outside this process."""
        return self.slot[:6].hex()


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
    """A live *valid*. `fresh_until` and `refresh_at` monotonic, `validated_at` wall-clock seconds."""

    fingerprint: bytes
    principal: Principal
    validated_at: float
    fresh_until: float
    refresh_at: float


class VerdictCache:
    def __init__(self, policy: CachePolicy) -> None:
        self.policy = policy
        self._valid: Lru[bytes, Entry] = Lru(policy.positive_entries)
        self._invalid: Lru[bytes, tuple[bytes, float]] = Lru(policy.negative_entries)

    def fresh(self, key: TokenKey, now: float, wall_now: float) -> Entry | None:
        """The entry while it is fresh. Expiry of the token itself ends freshness too."""
        entry = self.known(key)
        if entry is None or now >= entry.fresh_until:
            return None
        expires_at = entry.principal.expires_at
        return None if expires_at is not None and wall_now >= expires_at else entry

    def known(self, key: TokenKey) -> Entry | None:
        """The entry, fresh or stale: a fallback whose age `degrade` judges."""
        entry = self._valid.get(key.slot)
        return entry if entry is not None and entry.fingerprint == key.fingerprint else None

    def claim_refresh(self, entry: Entry, now: float) -> bool:
        """Is it time to ask again before the entry goes stale? True for one caller a period."""
        if now < entry.refresh_at:
            return False
        entry.refresh_at = entry.fresh_until
        return True

    def is_rejected(self, key: TokenKey, now: float) -> bool:
        found = self._invalid.get(key.slot)
        return found is not None and found[0] == key.fingerprint and now < found[1]

    def put_valid(
        self, key: TokenKey, principal: Principal, *, now: float, wall_now: float, hint_seconds: float | None
    ) -> None:
        lifetime = self.policy.positive_seconds
        if hint_seconds is not None:
            lifetime = min(lifetime, hint_seconds)
        if principal.expires_at is not None:
            lifetime = min(lifetime, max(principal.expires_at - wall_now, 0.0))
        refresh_at = now + lifetime * self.policy.refresh_ahead
        self._valid.put(key.slot, Entry(key.fingerprint, principal, wall_now, now + lifetime, refresh_at))
        self._invalid.drop(key.slot)

    def put_invalid(self, key: TokenKey, *, now: float) -> None:
        self._valid.drop(key.slot)
        self._invalid.put(key.slot, (key.fingerprint, now + self.policy.negative_seconds))
