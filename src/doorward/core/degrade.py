"""May this token be let in while the auth service cannot be asked?

Six conditions, all of which must hold (docs/concepts/degraded-mode.md). The answer carries the reason, so that the log can say it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from doorward.core.verdict import Assurance, Cause


class Mode(StrEnum):
    """What counts as proof. `local_jwt` also takes what `cached_only` takes."""

    LOCAL_JWT = "local_jwt"
    CACHED_ONLY = "cached_only"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class DegradePolicy:
    """Bounds in seconds. `mode=None`: `local_jwt` where a revocation feed exists, else `cached_only`."""

    mode: Mode | None = None
    max_token_age_seconds: float = 3600.0
    max_stale_seconds: float = 1800.0
    max_keyset_age_seconds: float = 86_400.0
    max_feed_age_seconds: float = 300.0
    max_outage_seconds: float = 1800.0
    grant_seconds: float = 900.0
    privileged_scopes: frozenset[str] = frozenset()

    def effective_mode(self, *, has_feed: bool) -> Mode:
        return self.mode or (Mode.LOCAL_JWT if has_feed else Mode.CACHED_ONLY)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the door knows about the outage. Wall-clock seconds, because all of it survives a restart on disk.

    `last_contact`: the last live answer; `None` without a record. `last_feed`: the last successful poll of the revocation
    feed; `None` where there never was a feed.
    """

    last_contact: float | None
    last_feed: float | None
    keyset_age_seconds: float | None
    route_allows: bool = True
    bars_complete: bool = True


@dataclass(frozen=True, slots=True)
class Proof:
    """What speaks for the token. `verified`: signature and claims hold against the cached key set.

    `validated_at`: wall-clock seconds of its last live *valid*; `None` if there is none in memory.
    """

    verified: bool
    issued_at: float | None
    expires_at: float | None
    validated_at: float | None
    barred: bool


class Refusal(StrEnum):
    """Why a token is not let in degraded."""

    BARRED = "barred"
    MODE = "mode_deny"
    ROUTE = "route"
    BARS_INCOMPLETE = "bars_incomplete"
    NO_CONTACT_RECORD = "no_contact_record"
    OUTAGE_TOO_LONG = "outage_too_long"
    FEED_STALE = "feed_stale"
    NOT_PROVEN = "not_proven"
    ONLY_CACHED = "cached_only"
    """Proven by its signature, which does not count in this mode."""
    KEYSET_STALE = "keyset_stale"
    TOKEN_TOO_OLD = "token_too_old"  # noqa: S105 - a reason, no secret

    @property
    def cause(self) -> Cause | None:
        """The cause the client is told, where it is another one than the outage itself."""
        stale = {Refusal.OUTAGE_TOO_LONG, Refusal.NO_CONTACT_RECORD}
        return Cause.STALE if self in stale else None


@dataclass(frozen=True, slots=True)
class Grant:
    """Let in on this proof until `until` (wall-clock seconds)."""

    assurance: Assurance
    until: float


def admit(policy: DegradePolicy, surroundings: Surroundings, proof: Proof, wall_now: float) -> Grant | Refusal:
    """Apply every rule but the rate, which is the caller's to spend last.

    Source: the conditions of "Degraded admit" in the design; stale-if-error is RFC 5861 section 4.
    """
    if proof.barred:
        return Refusal.BARRED
    mode = policy.effective_mode(has_feed=surroundings.last_feed is not None)
    if mode is Mode.DENY:
        return Refusal.MODE
    if not surroundings.route_allows:
        return Refusal.ROUTE
    if not surroundings.bars_complete:
        return Refusal.BARS_INCOMPLETE
    outage = _outage(policy, surroundings, wall_now)
    if outage is not None:
        return outage
    weak = _weakness(policy, surroundings, proof, mode, wall_now)
    if isinstance(weak, Refusal):
        return weak
    expires_at = proof.expires_at if proof.expires_at is not None else wall_now + policy.grant_seconds
    return Grant(weak, min(expires_at, wall_now + policy.grant_seconds))


def outage_refusal(policy: DegradePolicy, last_contact: float | None, wall_now: float) -> Refusal | None:
    """Is the outage too long, or nobody knows how long?"""
    if last_contact is None or last_contact > wall_now:
        return Refusal.NO_CONTACT_RECORD
    if wall_now - last_contact >= policy.max_outage_seconds:
        return Refusal.OUTAGE_TOO_LONG
    return None


def _outage(policy: DegradePolicy, surroundings: Surroundings, wall_now: float) -> Refusal | None:
    contact, feed = surroundings.last_contact, surroundings.last_feed
    refusal = outage_refusal(policy, contact, wall_now)
    if refusal is not None or contact is None or feed is None:
        return refusal
    return Refusal.FEED_STALE if feed > wall_now or contact - feed > policy.max_feed_age_seconds else None


def _weakness(
    policy: DegradePolicy, surroundings: Surroundings, proof: Proof, mode: Mode, wall_now: float
) -> Assurance | Refusal:
    """The assurance that the proof carries, or what it lacks."""
    if proof.expires_at is not None and proof.expires_at <= wall_now:
        return Refusal.NOT_PROVEN
    validated = proof.validated_at
    if validated is not None and 0 <= wall_now - validated <= policy.max_stale_seconds:
        return Assurance.CACHED
    if not proof.verified:
        return Refusal.NOT_PROVEN
    if mode is not Mode.LOCAL_JWT:
        return Refusal.ONLY_CACHED
    age = surroundings.keyset_age_seconds
    if age is None or age > policy.max_keyset_age_seconds:
        return Refusal.KEYSET_STALE
    if proof.issued_at is None or wall_now - proof.issued_at > policy.max_token_age_seconds:
        return Refusal.TOKEN_TOO_OLD
    return Assurance.LOCAL
