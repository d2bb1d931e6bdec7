"""FALLBACK: the auth service could not be asked. Let in what is proven, within bounds; tell everybody else why."""

from __future__ import annotations

from doorward.core import degrade
from doorward.core.limits import TokenBucket
from doorward.core.routes import Route
from doorward.core.verdict import Allow, Cause, Code, Deny, Principal, Source, Unavailable, Verdict
from doorward.runtime.gate import Unanswered
from doorward.runtime.keyset_refresher import KeysetRefresher
from doorward.runtime.known import Known
from doorward.runtime.ports import Clock
from doorward.runtime.telemetry import Telemetry
from doorward.runtime.token_reader import Subject

_OUTAGE_CAUSES = frozenset({Cause.DEADLINE, Cause.UPSTREAM, Cause.BREAKER_OPEN})


class Fallback:
    """The degraded rules, with everything that they ask about."""

    def __init__(
        self,
        policy: degrade.DegradePolicy,
        known: Known,
        keys: KeysetRefresher,
        rate: TokenBucket,
        *,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._policy = policy
        self._known = known
        self._keys = keys
        self._rate = rate
        self._clock = clock
        self._telemetry = telemetry

    def decide(self, subject: Subject, route: Route, unanswered: Unanswered) -> Verdict:
        """The verdict on a token about which nobody could be asked."""
        if self._known.is_barred(subject, self._clock.wall()):
            return Deny(Code.TOKEN_REJECTED, Source.FALLBACK, "refused live before")
        if not unanswered.fallback:
            return unavailable(unanswered, Source.FALLBACK)
        revoked = self._known.revoked(subject.reading, self._known.entry(subject.reading))
        if revoked is not None:
            return revoked
        grant = self.grant(subject, route)
        if isinstance(grant, degrade.Refusal):
            return self._refused(subject, unanswered, grant)
        if not self._rate.take(self._clock.monotonic()):
            return Unavailable(Code.OVERLOADED, Source.FALLBACK, detail="too many degraded admits")
        self._telemetry.metrics.degraded_admit(grant.assurance)
        return Allow(self._proven(subject), grant.assurance, Source.FALLBACK, degraded=True, grant_until=grant.until)

    def provisional(self, subject: Subject, route: Route) -> Allow | None:
        """In before the answer, if that is still right: a refusal may have come meanwhile, and be on its way to disk.

        A scope that the claims lack may be in the answer, so such a route is worth the whole wait.
        """
        grant = self.grant(subject, route)
        if isinstance(grant, degrade.Refusal):
            return None
        principal = self._proven(subject)
        if not route.required_scopes <= principal.permissions:
            return None
        return Allow(principal, grant.assurance, Source.PATIENCE, provisional=True)

    def grant(self, subject: Subject, route: Route) -> degrade.Grant | degrade.Refusal:
        """What the degraded rules would say now (their rate apart)."""
        wall, memory, local = self._clock.wall(), self._known.memory, subject.local
        principal = self._known.principal(subject.reading)
        surroundings = degrade.Surroundings(
            last_contact=memory.last_contact,
            last_feed=memory.feed_as_of,
            keyset_age_seconds=self._keys.age_seconds(),
            route_allows=route.allow_degraded,
            bars_complete=memory.bars.complete(subject.reading.lane, wall),
        )
        proof = degrade.Proof(
            verified=local is not None,
            issued_at=local.issued_at if local is not None else None,
            expires_at=principal.expires_at if principal is not None else None,
            validated_at=self._known.validated_at(subject.reading),
            barred=self._known.is_barred(subject, wall),
        )
        return degrade.admit(self._policy, surroundings, proof, wall)

    def _refused(self, subject: Subject, unanswered: Unanswered, why: degrade.Refusal) -> Unavailable:
        if subject.reading.is_jwt and subject.local is None and unanswered.cause in _OUTAGE_CAUSES:
            return Unavailable(Code.SERVICE_UNAVAILABLE, Source.FALLBACK, Cause.KEYSET, "no key set yet")
        cause = why.cause if self._known.principal(subject.reading) is not None else None
        detail = f"{unanswered.detail}; no fallback: {why}" if unanswered.detail else f"no fallback: {why}"
        if cause is not None and unanswered.cause is not Cause.CONFIG:
            return Unavailable(Code.SERVICE_UNAVAILABLE, Source.FALLBACK, cause, detail)
        return Unavailable(unanswered.code, Source.FALLBACK, unanswered.cause, detail, unanswered.retry_after_seconds)

    def _proven(self, subject: Subject) -> Principal:
        """Whom a grant is for."""
        principal = self._known.principal(subject.reading)
        assert principal is not None  # noqa: S101 - nothing unknown is ever granted; this tells the type checker
        return principal


def unavailable(unanswered: Unanswered, source: Source) -> Unavailable:
    """Could not ask, as a verdict."""
    return Unavailable(unanswered.code, source, unanswered.cause, unanswered.detail, unanswered.retry_after_seconds)
