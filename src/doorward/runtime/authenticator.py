"""The pipeline: one handshake in, one verdict out, before its deadline.

    ORIGIN -> ADMIT -> EXTRACT -> LOCAL -> REVOKED -> CACHE -> GATE -> REMOTE -> FALLBACK -> policy

Each step either decides or hands on. All steps but two are plain function calls; those two (a look for an unknown key, and the
question to the auth service) wait no longer than the handshake's own deadline.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from doorward.core import degrade
from doorward.core.answer import Invalid, Valid, shown
from doorward.core.claims import ClaimsPolicy, check, is_expired, merged
from doorward.core.credential import Presented, Transport, extract
from doorward.core.deadline import Deadline
from doorward.core.decisions import Entry, TokenKey, VerdictCache
from doorward.core.e2e import is_test_token
from doorward.core.keyset import KeySet, Parsed, UnknownKey, parse_token, unverified_claims, verify
from doorward.core.limits import AddressLimit, Lane, TokenBucket
from doorward.core.lru import Lru
from doorward.core.origin import allowed
from doorward.core.routes import Route
from doorward.core.verdict import Allow, Assurance, Cause, Code, Deny, Principal, Source, Unavailable, Verdict
from doorward.runtime.e2e import E2eTokens
from doorward.runtime.gate import Gate, Unanswered
from doorward.runtime.inquiry import Inquirer
from doorward.runtime.keyset_refresher import KeysetRefresher
from doorward.runtime.memory import NodeMemory
from doorward.runtime.ports import Clock
from doorward.runtime.singleflight import SingleFlight, landed
from doorward.runtime.telemetry import Telemetry, Trace

ANSWER_MARGIN_SECONDS = 0.05
"""Waiting ends this long before the deadline, so that the answer is out in time and not just decided in time."""

OPAQUE_BAR_SECONDS = 3600.0
PROOF_ENTRIES = 32_768
_OUTAGE_CAUSES = frozenset({Cause.DEADLINE, Cause.UPSTREAM, Cause.BREAKER_OPEN})


@dataclass(frozen=True, slots=True)
class AuthPolicy:
    """What the pipeline goes by. Seconds.

    `probes`: a handshake that holds a fallback may find out whether the service is back; for where no canary flies.
    """

    claims: ClaimsPolicy
    algorithms: frozenset[str]
    typ: str | None
    audience: str
    remote: bool = True
    question_seconds: float = 2.0
    patience_seconds: float = 0.5
    allowed_origins: frozenset[str] = frozenset()
    max_pending: int = 4_096
    probes: bool = False
    degraded: degrade.DegradePolicy = field(default_factory=degrade.DegradePolicy)


@dataclass(frozen=True, slots=True)
class Handshake:
    """One opening handshake, or one HTTP request, as the server handed it over.

    `scheme` is the client's own, behind a trusted proxy too.
    """

    path: str
    address: str
    origin: str | None
    host: str | None
    scheme: str
    presented: Presented
    route: Route
    is_safe: bool = False
    """An HTTP request that only reads (RFC 9110, section 9.2.1): no page of another origin can do harm with a cookie's help."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A token and what is known of it before anybody is asked. `local` only if it is fully verified.

    `claimed`: what a JWT says of itself while there is no key set; it counts once the auth service has called the token valid,
    so that a revocation finds it by token id and session.
    """

    token: str = field(repr=False)
    key: TokenKey
    lane: Lane
    is_jwt: bool
    local: Principal | None
    claimed: Principal | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A question to the auth service that is still open: what to do with the answer, and until when to wait for it."""

    subject: Subject
    route: Route
    flight: asyncio.Task[Finding]
    deadline: Deadline


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with what is needed to stand by it. `question` is there for a provisional `Allow` only."""

    verdict: Verdict
    subject: Subject | None = None
    question: Question | None = None


Finding = Principal | Invalid | Unanswered
"""What a flight brings: who it is, a definitive no, or could not ask."""


class Authenticator:
    def __init__(
        self,
        policy: AuthPolicy,
        *,
        inquirer: Inquirer,
        gate: Gate,
        cache: VerdictCache,
        memory: NodeMemory,
        keys: KeysetRefresher,
        addresses: AddressLimit,
        degraded_rate: TokenBucket,
        clock: Clock,
        telemetry: Telemetry,
        e2e: E2eTokens | None = None,
    ) -> None:
        self.policy = policy
        self.pending = 0
        self._inquirer = inquirer
        self._gate = gate
        self._cache = cache
        self._memory = memory
        self._keys = keys
        self._addresses = addresses
        self._degraded_rate = degraded_rate
        self._clock = clock
        self._telemetry = telemetry
        self._e2e = e2e
        self._flights: SingleFlight[Finding] = SingleFlight()
        self._proofs: Lru[bytes, tuple[bytes, KeySet, Principal]] = Lru(PROOF_ENTRIES)
        self._cache_key = secrets.token_bytes(32)
        self._binding = f"{policy.claims.issuer}\0{policy.audience}\0".encode()

    async def aclose(self, *, seconds: float) -> None:
        await self._flights.aclose(seconds=seconds)

    async def decide(self, handshake: Handshake, deadline: Deadline, trace: Trace) -> Judgement:
        """The verdict on an opening handshake.

        Cancellation: the question, if one was asked, goes on for whoever shares it; nothing else is left behind.
        """
        refusal = self._origin(handshake) or self._admit(handshake)
        trace.mark("admit")
        if refusal is not None:
            return Judgement(refusal)
        credential = extract(handshake.presented, handshake.route.transports)
        trace.mark("extract")
        if isinstance(credential, Deny):
            return Judgement(credential)
        if credential.transport is Transport.COOKIE and handshake.origin is None and not handshake.is_safe:
            return Judgement(Deny(Code.ORIGIN_DENIED, Source.ORIGIN, "a cookie counts only with an allowed Origin"))
        self.pending += 1
        try:
            if self._e2e is not None and is_test_token(credential.token):
                return await self._judge_test_token(self._e2e, credential.token, handshake.route, deadline, trace)
            return await self.judge(credential.token, handshake.route, deadline, trace)
        finally:
            self.pending -= 1

    async def judge(
        self, token: str, route: Route, deadline: Deadline, trace: Trace, *, patient: bool = True
    ) -> Judgement:
        """The verdict on a token: for a handshake, and for an in-band refresh.

        Args:
            patient: with a fallback in hand, do not wait to the deadline but let in provisionally.
        """
        if is_test_token(token):
            detail = "a test token, and not where it may open a connection"
            return Judgement(Deny(Code.TOKEN_INVALID, Source.E2E, detail))
        waiting = Deadline(deadline.at - ANSWER_MARGIN_SECONDS)
        subject = await self._read(token, waiting)
        trace.mark("local")
        if not isinstance(subject, Subject):
            return Judgement(subject)
        judgement = self._without_asking(subject)
        trace.mark("cache")
        if judgement is None:
            judgement = await self._remote(subject, route, waiting, deadline, trace, patient=patient)
        verdict = self.permitted(judgement.verdict, route)
        return Judgement(verdict, subject, judgement.question)

    async def settle(self, question: Question) -> Verdict:
        """The late verdict on a provisional admission: the answer, or at the deadline the full degraded rules."""
        await landed(question.flight, question.deadline.remaining(self._clock.monotonic()))
        finding = _finding(question.flight)
        verdict = self._found(question.subject, question.route, finding)
        return self.permitted(verdict, question.route)

    async def recheck(self, subject: Subject, route: Route, deadline: Deadline) -> Verdict:
        """Ask about an admitted token anew, past the cache: after a recovery. A test token ends with the outage, unasked."""
        if is_test_token(subject.token):
            return Deny(Code.TOKEN_REJECTED, Source.E2E, "a test token counts in an outage only")
        revoked = self._revoked(subject)
        if revoked is not None:
            return revoked
        flight = self._flights.get(subject.key.slot) or self._start(subject, deadline)
        if isinstance(flight, Unanswered):
            return _unavailable(flight, Source.REMOTE)
        await landed(flight, deadline.remaining(self._clock.monotonic()))
        finding = _finding(flight)
        if isinstance(finding, Unanswered):
            return _unavailable(finding, Source.REMOTE)
        return self.permitted(self._found(subject, route, finding), route)

    def is_revoked(self, principal: Principal, good_at: float) -> bool:
        """Asked once more when the connection is registered: a revocation may have come in meanwhile."""
        return self._memory.revocations.is_revoked(principal, good_at)

    def validated_at(self, subject: Subject) -> float | None:
        """When we last asked about a token that was then called valid: wall-clock seconds. Stands in for a missing `iat`."""
        entry = self._entry(subject)
        return entry.validated_at if entry is not None else None

    def permitted(self, verdict: Verdict, route: Route) -> Verdict:
        """The route's own demands. What only a degraded admission lacks is `Unavailable`: it is not a *no*."""
        if not isinstance(verdict, Allow):
            return verdict
        kept = verdict.principal.permissions
        if verdict.degraded:
            kept -= self.policy.degraded.privileged_scopes
        if route.required_scopes <= kept:
            return verdict
        if verdict.degraded:
            why = "the route needs a scope that a degraded admission lacks"
            return Unavailable(Code.SERVICE_UNAVAILABLE, Source.POLICY, self._outage_cause(), why)
        return Deny(Code.FORBIDDEN, Source.POLICY, "a required scope is missing")

    # E2E test tokens: past LOCAL, CACHE and REMOTE

    async def _judge_test_token(
        self, e2e: E2eTokens, token: str, route: Route, deadline: Deadline, trace: Trace
    ) -> Judgement:
        key = self._key_of(token)
        waiting = Deadline(deadline.at - ANSWER_MARGIN_SECONDS)
        verdict = await e2e.judge(token, route, waiting, shown=key.shown)
        trace.mark("e2e")
        return Judgement(verdict, Subject(token, key, Lane.UNPROVEN, is_jwt=True, local=None))

    # ORIGIN, ADMIT

    def _origin(self, handshake: Handshake) -> Deny | None:
        extra = self.policy.allowed_origins
        if allowed(handshake.origin, scheme=handshake.scheme, host=handshake.host, extra=extra):
            return None
        mend = f"origin {shown(handshake.origin)}; add it to allowed_origins to admit it"
        return Deny(Code.ORIGIN_DENIED, Source.ORIGIN, mend)

    def _admit(self, handshake: Handshake) -> Unavailable | None:
        if not self._addresses.take(handshake.address, self._clock.monotonic()):
            return Unavailable(Code.RATE_LIMITED, Source.ADMIT)
        if self.pending >= self.policy.max_pending:
            return Unavailable(Code.OVERLOADED, Source.ADMIT, detail="too many pending handshakes")
        return None

    # LOCAL

    async def _read(self, token: str, waiting: Deadline) -> Subject | Deny | Unavailable:
        """Everything that can be known without asking about the token. Waits only for an unknown key."""
        key = self._key_of(token)
        proven = self._proven_before(token, key)
        if proven is not None:
            return proven
        parsed = parse_token(token, self.policy.algorithms, self.policy.typ)
        if isinstance(parsed, Deny):
            return parsed
        subject = Subject(token, key, Lane.UNPROVEN, is_jwt=parsed is not None, local=None)
        return subject if parsed is None else await self._verify(subject, parsed, waiting)

    def _key_of(self, token: str) -> TokenKey:
        digest = hmac.digest(self._cache_key, self._binding + token.encode(), "sha256")
        return TokenKey(digest[:16], digest[16:])

    def _proven_before(self, token: str, key: TokenKey) -> Subject | Deny | None:
        """The proof of an earlier handshake: the signature still holds, the clock is asked again."""
        found = self._proofs.get(key.slot)
        if found is None or found[0] != key.fingerprint or found[1] is not self._keys.keyset:
            return None
        principal = found[2]
        if is_expired(principal, self.policy.claims, self._clock.wall()):
            return Deny(Code.TOKEN_EXPIRED, Source.LOCAL)
        return Subject(token, key, Lane.PROVEN, is_jwt=True, local=principal)

    async def _verify(self, subject: Subject, parsed: Parsed, waiting: Deadline) -> Subject | Deny | Unavailable:
        keyset = self._keys.keyset
        if keyset is None and self.policy.remote:
            return replace(subject, claimed=self._claimed(parsed))
        if keyset is None:
            return await self._first_keyset(subject, parsed, waiting)
        claims = verify(parsed, keyset)
        if isinstance(claims, UnknownKey):
            looked = self._keys.is_definitive() or await self._keys.look_again(waiting)
            if not looked or not self._keys.is_definitive():
                return Unavailable(Code.SERVICE_UNAVAILABLE, Source.LOCAL, Cause.KEYSET, "a key that is not in the set")
            keyset = self._keys.keyset or keyset
            claims = verify(parsed, keyset)
        if isinstance(claims, UnknownKey):
            return Deny(Code.TOKEN_INVALID, Source.LOCAL, "signed with a key that the issuer does not publish")
        if isinstance(claims, Deny):
            return claims
        principal = check(claims, self.policy.claims, self._clock.wall())
        if isinstance(principal, Deny):
            return principal
        self._proofs.put(subject.key.slot, (subject.key.fingerprint, keyset, principal))
        return replace(subject, lane=Lane.PROVEN, local=principal)

    def _claimed(self, parsed: Parsed) -> Principal | None:
        claims = unverified_claims(parsed)
        principal = check(claims, self.policy.claims, self._clock.wall()) if claims is not None else None
        return principal if isinstance(principal, Principal) else None

    async def _first_keyset(self, subject: Subject, parsed: Parsed, waiting: Deadline) -> Subject | Deny | Unavailable:
        """`verify = local` cannot do without a key set: wait for the first one."""
        await self._keys.look_again(waiting)
        if self._keys.keyset is None:
            return Unavailable(Code.SERVICE_UNAVAILABLE, Source.LOCAL, Cause.KEYSET, "no key set yet")
        return await self._verify(subject, parsed, waiting)

    # REVOKED, CACHE

    def _without_asking(self, subject: Subject) -> Judgement | None:
        refusal = self._revoked(subject)
        if refusal is not None:
            return Judgement(refusal)
        if subject.local is not None and not self.policy.remote:
            return Judgement(Allow(subject.local, Assurance.LOCAL, Source.LOCAL))
        now = self._clock.monotonic()
        entry = self._cache.fresh(subject.key, now, self._clock.wall())
        if entry is not None and entry is self._entry(subject):
            if self._cache.claim_refresh(entry, now) and self._flights.get(subject.key.slot) is None:
                self._start(subject, Deadline.after(now, self.policy.question_seconds))
            return Judgement(Allow(entry.principal, Assurance.CACHED, Source.CACHE))
        if self._cache.is_rejected(subject.key, now):
            return Judgement(Deny(Code.TOKEN_REJECTED, Source.CACHE))
        return None

    def _revoked(self, subject: Subject) -> Deny | None:
        entry = self._entry(subject)
        principal = subject.local if entry is None else entry.principal
        if principal is None:
            return None
        revoked = self._memory.revocations.is_revoked(principal, None if entry is None else entry.validated_at)
        return Deny(Code.TOKEN_REVOKED, Source.REVOKED) if revoked else None

    def _known(self, subject: Subject) -> Principal | None:
        """Who the token is about, without asking: its claims, with the session and the expiry that were said of it live.

        The permissions are those of the claims; an opaque token has only what was said of it.
        """
        entry = self._entry(subject)
        if entry is None or subject.local is None:
            return subject.local if entry is None else entry.principal
        return replace(entry.principal, permissions=subject.local.permissions)

    def _entry(self, subject: Subject) -> Entry | None:
        """The last live *valid*; not one from a time without a key set, if the claims now say more, or somebody else."""
        entry, local = self._cache.known(subject.key), subject.local
        if entry is None or local is None:
            return entry
        said = entry.principal
        same = (said.user_id, said.jti, said.issued_at) == (local.user_id, local.jti, local.issued_at)
        return entry if same else None

    def _bar(self, subject: Subject) -> bytes:
        """What a refusal is remembered by. Of a JWT without its signature: an ECDSA signature has a twin that holds too."""
        signed = f"jwt\0{subject.token.rpartition('.')[0]}" if subject.is_jwt else f"opaque\0{subject.token}"
        return hmac.digest(self._memory.key, hashlib.sha256(self._binding + signed.encode()).digest(), "sha256")

    # GATE, REMOTE

    async def _remote(
        self, subject: Subject, route: Route, waiting: Deadline, deadline: Deadline, trace: Trace, *, patient: bool
    ) -> Judgement:
        grant = self._grant(subject, route)
        flight = self._flights.get(subject.key.slot)
        if flight is None:
            started = self._start(subject, deadline, probe=self._may_probe(grant))
            trace.mark("gate")
            if isinstance(started, Unanswered):
                return Judgement(self._fallback(subject, route, started))
            flight = started
        if patient and isinstance(grant, degrade.Grant):
            patience = waiting.earlier(trace.began + self.policy.patience_seconds)
            if not await landed(flight, patience.remaining(self._clock.monotonic())):
                verdict = self._provisional(subject, route)
                if verdict is not None:
                    trace.mark("patience")
                    self._telemetry.metrics.wait_bounded("patience")
                    return Judgement(verdict, question=Question(subject, route, flight, deadline))
        await landed(flight, waiting.remaining(self._clock.monotonic()))
        trace.mark("remote")
        return Judgement(self._found(subject, route, _finding(flight)))

    def _may_probe(self, grant: degrade.Grant | degrade.Refusal) -> bool:
        """Where no canary flies, or the service throttles it, a handshake that holds a fallback may find out.

        One without a fallback may if nobody with one has come for a while: the breaker must not stay open for ever.
        """
        if not self.policy.probes and self._gate.throttled_seconds(Lane.UNPROVEN) == 0:
            return False
        return isinstance(grant, degrade.Grant) or self._gate.is_overdue

    def _provisional(self, subject: Subject, route: Route) -> Allow | None:
        """In before the answer, if that is still right: a refusal may have come meanwhile, and be on its way to disk.

        A scope that the claims lack may be in the answer, so such a route is worth the whole wait.
        """
        grant = self._grant(subject, route)
        if isinstance(grant, degrade.Refusal):
            return None
        principal = self._proven(subject)
        if not route.required_scopes <= principal.permissions:
            return None
        return Allow(principal, grant.assurance, Source.PATIENCE, provisional=True)

    def _start(
        self, subject: Subject, deadline: Deadline, *, probe: bool = False
    ) -> asyncio.Task[Finding] | Unanswered:
        passed = self._gate.enter(subject.lane, probe=probe)
        if isinstance(passed, Unanswered):
            return passed

        asked_at = self._clock.wall()

        async def fly() -> Finding:
            with slot:
                answer = await self._inquirer.ask(
                    subject.token, passed, deadline, complaint=lambda answer: self._mismatch(subject, answer)
                )
            return await self._learn(subject, answer, asked_at)

        slot = ExitStack()
        slot.callback(self._gate.leave, passed)
        flight = self._flights.start(subject.key.slot, fly())
        flight.add_done_callback(lambda _: slot.close())  # for one that is cancelled before its first step
        return flight

    def _mismatch(self, subject: Subject, answer: Valid | Invalid) -> str | None:
        if isinstance(answer, Valid) and merged(subject.local, answer, self.policy.claims.issuer) is None:
            return "the answer names another user or session than the token"
        return None

    async def _learn(self, subject: Subject, answer: Valid | Invalid | Unanswered, asked_at: float) -> Finding:
        """Remember a live answer: cache, bar, contact. Each write is bounded by the store itself."""
        if isinstance(answer, Unanswered):
            return answer
        now, wall = self._clock.monotonic(), self._clock.wall()
        if isinstance(answer, Invalid):
            self._cache.put_invalid(subject.key, now=now)
            expires_at = subject.local.expires_at if subject.local is not None else None
            until = max(expires_at or 0.0, wall) if expires_at else wall + OPAQUE_BAR_SECONDS
            await self._memory.bar(self._bar(subject), until + self.policy.claims.expiry_leeway_seconds, subject.lane)
            await self._memory.contact()
            return answer
        issuer = self.policy.claims.issuer
        principal = merged(subject.local or subject.claimed, answer, issuer) or merged(subject.local, answer, issuer)
        assert principal is not None  # noqa: S101 - a mismatch was refused as a complaint
        self._cache.put_valid(subject.key, principal, now=now, wall_now=asked_at, hint_seconds=answer.cache_seconds)
        await self._memory.lift(self._bar(subject))
        await self._memory.contact()
        return principal

    # FALLBACK

    def _found(self, subject: Subject, route: Route, finding: Finding) -> Verdict:
        if isinstance(finding, Unanswered):
            return self._fallback(subject, route, finding)
        if isinstance(finding, Invalid):
            return Deny(Code.TOKEN_REJECTED, Source.REMOTE, finding.reason)
        wall = self._clock.wall()
        if is_expired(finding, self.policy.claims, wall):
            return Deny(Code.TOKEN_EXPIRED, Source.REMOTE)
        if self._memory.revocations.is_revoked(finding, self.validated_at(subject)):
            return Deny(Code.TOKEN_REVOKED, Source.REVOKED)
        return Allow(finding, Assurance.LIVE, Source.REMOTE)

    def _fallback(self, subject: Subject, route: Route, unanswered: Unanswered) -> Verdict:
        """Could not ask. Let in what is proven, within bounds; tell everybody else why and when to come back."""
        if self._memory.bars.holds(self._bar(subject), self._clock.wall()):
            return Deny(Code.TOKEN_REJECTED, Source.FALLBACK, "refused live before")
        if not unanswered.fallback:
            return _unavailable(unanswered, Source.FALLBACK)
        revoked = self._revoked(subject)
        if revoked is not None:
            return revoked
        grant = self._grant(subject, route)
        if isinstance(grant, degrade.Refusal):
            return self._refused(subject, unanswered, grant)
        if not self._degraded_rate.take(self._clock.monotonic()):
            return Unavailable(Code.OVERLOADED, Source.FALLBACK, detail="too many degraded admits")
        self._telemetry.metrics.degraded_admit(grant.assurance)
        return Allow(self._proven(subject), grant.assurance, Source.FALLBACK, degraded=True, grant_until=grant.until)

    def _refused(self, subject: Subject, unanswered: Unanswered, why: degrade.Refusal) -> Unavailable:
        if subject.is_jwt and subject.local is None and unanswered.cause in _OUTAGE_CAUSES:
            return Unavailable(Code.SERVICE_UNAVAILABLE, Source.FALLBACK, Cause.KEYSET, "no key set yet")
        cause = why.cause if self._known(subject) is not None else None
        detail = f"{unanswered.detail}; no fallback: {why}" if unanswered.detail else f"no fallback: {why}"
        if cause is not None and unanswered.cause is not Cause.CONFIG:
            return Unavailable(Code.SERVICE_UNAVAILABLE, Source.FALLBACK, cause, detail)
        return Unavailable(unanswered.code, Source.FALLBACK, unanswered.cause, detail, unanswered.retry_after_seconds)

    def _grant(self, subject: Subject, route: Route) -> degrade.Grant | degrade.Refusal:
        """What the degraded rules would say now (their rate apart)."""
        wall = self._clock.wall()
        principal = self._known(subject)
        surroundings = degrade.Surroundings(
            last_contact=self._memory.last_contact,
            last_feed=self._memory.feed_as_of,
            keyset_age_seconds=self._keys.age_seconds(),
            route_allows=route.allow_degraded,
            bars_complete=self._memory.bars.complete(subject.lane, wall),
        )
        proof = degrade.Proof(
            verified=subject.local is not None,
            issued_at=subject.local.issued_at if subject.local is not None else None,
            expires_at=principal.expires_at if principal is not None else None,
            validated_at=self.validated_at(subject),
            barred=self._memory.bars.holds(self._bar(subject), wall),
        )
        return degrade.admit(self.policy.degraded, surroundings, proof, wall)

    def _proven(self, subject: Subject) -> Principal:
        """Whom a grant is for."""
        principal = self._known(subject)
        assert principal is not None  # noqa: S101 - nothing unknown is ever granted; this tells the type checker
        return principal

    def _outage_cause(self) -> Cause:
        suspect = self._gate.suspect
        return suspect.cause if suspect is not None and suspect.cause is not None else Cause.BREAKER_OPEN


def _finding(flight: asyncio.Task[Finding]) -> Finding:
    """What the flight brought, if it is back; a flight that was cancelled or broke brought nothing."""
    if not flight.done():
        return Unanswered(Code.SERVICE_UNAVAILABLE, Cause.DEADLINE, "no answer before the deadline")
    if flight.cancelled() or flight.exception() is not None:
        return Unanswered(Code.SERVICE_UNAVAILABLE, Cause.UPSTREAM, "the question was cut short")
    return flight.result()


def _unavailable(unanswered: Unanswered, source: Source) -> Unavailable:
    return Unavailable(unanswered.code, source, unanswered.cause, unanswered.detail, unanswered.retry_after_seconds)


__all__: Sequence[str] = ["AuthPolicy", "Authenticator", "Handshake", "Judgement", "Question", "Subject"]
