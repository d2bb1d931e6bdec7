"""The life of an admitted connection: events in, effects out.

All times are wall-clock seconds, because they are about `exp`. The shell calls `tick` at `wake_at`, and performs the effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from doorward.core.claims import EXPIRY_LEEWAY_SECONDS
from doorward.core.verdict import Allow, Cause, Code, Deny, Principal, Source, Unavailable, Verdict

RECOVERY_NOTICE_SECONDS = 60.0
"""How long a socket whose token ran out in an outage may take to bring a new one after the recovery."""


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """Seconds. `expiring_notice_seconds` before the end the client is told to refresh. Who came within `expiry_leeway_seconds`
    after the `exp` of its token may stay until they are over: nobody is let in and put out in the same moment.
    """

    expiring_notice_seconds: float = 60.0
    expiry_grace_seconds: float = 900.0
    privileged_scopes: frozenset[str] = frozenset()
    expiry_leeway_seconds: float = EXPIRY_LEEWAY_SECONDS


@dataclass(frozen=True, slots=True)
class Notify:
    """Send a door notice to a client of ours."""

    notice: str
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Close:
    """Close the socket with this refusal's code, and cancel what was started on it."""

    refusal: Deny | Unavailable


Effect = Notify | Close


class Phase(StrEnum):
    ADMITTED = "admitted"
    GRACE = "grace"
    CLOSED = "closed"


_ADMITTED, _GRACE, _CLOSED = Phase
"""Looked up once: on Python 3.11 a member of an enum, read from its class, takes as long as a small function."""


class Session(msgspec.Struct, eq=False):
    """One admitted connection. Every method returns the effects, in order; none after the first `Close`."""

    allow: Allow
    policy: SessionPolicy
    admitted_at: float
    """When the token came."""
    phase: Phase = _ADMITTED
    graces: int = 0
    _warned: bool = False
    _grace_ends: float = 0.0

    @property
    def principal(self) -> Principal:
        return self.allow.principal

    @property
    def permissions(self) -> frozenset[str]:
        """What the app may rely on now: a degraded or overdue connection has no privileged scopes."""
        reduced = self.allow.degraded or self.phase is _GRACE
        dropped = self.policy.privileged_scopes if reduced else frozenset()
        return self.allow.principal.permissions - dropped

    @property
    def ends_at(self) -> float | None:
        """When this admission ends unless something is done; `None`: never by itself."""
        if self.phase is _GRACE:
            return self._grace_ends
        granted, expires_at = self.allow.grant_until, self._expires_at
        if granted is None or expires_at is None:
            return expires_at if granted is None else granted
        return min(granted, expires_at)

    @property
    def _expires_at(self) -> float | None:
        expires_at = self.allow.principal.expires_at
        if expires_at is None or self.admitted_at < expires_at:
            return expires_at
        return expires_at + self.policy.expiry_leeway_seconds

    @property
    def wake_at(self) -> float | None:
        """When `tick` is due."""
        end = self.ends_at
        if end is None or self.phase is _CLOSED:
            return None
        return end if self._warned else end - self.policy.expiring_notice_seconds

    @property
    def needs_proof(self) -> bool:
        """Is it to be re-validated when the auth service is back?"""
        return self.phase is not _CLOSED and self.allow.degraded

    def tick(self, wall_now: float, *, outage: bool) -> Sequence[Effect]:
        """The clock reached `wake_at` (early or late calls do no harm)."""
        end = self.ends_at
        if end is None or self.phase is _CLOSED:
            return ()
        if wall_now >= end:
            return self._ended(wall_now, outage=outage)
        if not self._warned and wall_now >= end - self.policy.expiring_notice_seconds:
            self._warned = True
            return (Notify("auth.expiring", {"expires_in_ms": int((end - wall_now) * 1000)}),)
        return ()

    def settled(self, verdict: Verdict) -> Sequence[Effect]:
        """What came of a question that was still open when we let it in, or of a re-validation.

        A late *no* is told as `TOKEN_REVOKED`: the client was in, and is not any more.
        """
        if self.phase is _CLOSED:
            return ()
        if isinstance(verdict, Deny):
            return self.revoked()
        if isinstance(verdict, Unavailable):
            return self._close(verdict)
        if not self._is_same_person(verdict.principal):
            return self._close(Unavailable(Code.SERVICE_UNAVAILABLE, Source.REMOTE, Cause.PROTOCOL))
        self._admit(verdict)
        return (self._assurance_notice(),)

    def revoked(self) -> Sequence[Effect]:
        """Live revocation."""
        return self._close(Deny(Code.TOKEN_REVOKED, Source.REVOKED))

    def refreshed(self, allow: Allow, wall_now: float) -> Sequence[Effect] | Deny:
        """A new token came in-band. It must keep the subject and the session."""
        old, new = self.principal, allow.principal
        if (old.issuer, old.user_id, old.session_id) != (new.issuer, new.user_id, new.session_id):
            return Deny(Code.FORBIDDEN, Source.POLICY, "the new token is about another user or session")
        if self.phase is _CLOSED:
            return ()
        self.admitted_at = wall_now
        self._admit(allow)
        return (self._assurance_notice(),)

    def recovered(self, wall_now: float) -> Sequence[Effect]:
        """The auth service is back. One that ran out meanwhile may bring a new token, for a minute."""
        if self.phase is not _GRACE:
            return ()
        self._grace_ends = min(self._grace_ends, wall_now + RECOVERY_NOTICE_SECONDS)
        self._warned = True
        return (Notify("auth.expiring", {"expires_in_ms": int((self._grace_ends - wall_now) * 1000)}),)

    def draining(self, retry_after_ms: int) -> Sequence[Effect]:
        if self.phase is _CLOSED:
            return ()
        return (Notify("server.draining", {"retry_after_ms": retry_after_ms}),)

    def closed(self) -> None:
        self.phase = _CLOSED

    def _is_same_person(self, other: Principal) -> bool:
        """The same token must go on to name the same user and session; an opaque one may name its session late."""
        known = self.principal
        same_session = known.session_id in (None, other.session_id)
        return same_session and (known.issuer, known.user_id) == (other.issuer, other.user_id)

    def _admit(self, allow: Allow) -> None:
        self.allow, self.phase, self._warned = allow, _ADMITTED, False

    def _close(self, refusal: Deny | Unavailable) -> Sequence[Effect]:
        if self.phase is _CLOSED:
            return ()
        self.phase = _CLOSED
        return (Close(refusal),)

    def _ended(self, wall_now: float, *, outage: bool) -> Sequence[Effect]:
        """Time is up, for the token or only for a degraded grant. Nobody is told that a token is bad which is not, or which
        could not be refreshed in an outage."""
        expires_at = self._expires_at
        expired = expires_at is not None and wall_now >= expires_at
        if expired and not outage:
            return self._close(Deny(Code.TOKEN_EXPIRED, Source.LOCAL))
        if expired and self.phase is _ADMITTED and not (self.allow.degraded or self.allow.provisional):
            self.phase, self._warned = _GRACE, True
            self._grace_ends = wall_now + self.policy.expiry_grace_seconds
            self.graces += 1
            return (Notify("auth.grace", {"until": self._grace_ends}),)
        return self._close(Unavailable(Code.SERVICE_UNAVAILABLE, Source.FALLBACK, Cause.STALE))

    def _assurance_notice(self) -> Notify:
        fields = {"assurance": self.allow.assurance, "degraded": self.allow.degraded, "expires_at": self.ends_at}
        return Notify("auth.assurance", fields)
