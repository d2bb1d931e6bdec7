"""The tokens of one issuer: what is known of one, what its auth service says, what holds while it says nothing.

    LOCAL -> REVOKED -> CACHE -> GATE -> REMOTE -> FALLBACK -> policy

Each step either decides or hands on. All steps but two are plain function calls; those two (a look for an unknown key, and the
question to the auth service) wait no longer than the handshake's own deadline. LOCAL is `token_reader.py`, what is remembered is
`known.py`, FALLBACK is `fallback.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import msgspec

from doorward.core import degrade
from doorward.core.answer import Invalid, Valid
from doorward.core.claims import ClaimsPolicy, is_expired
from doorward.core.deadline import Deadline
from doorward.core.decisions import VerdictCache
from doorward.core.e2e import is_test_token
from doorward.core.limits import Lane, TokenBucket
from doorward.core.routes import Route
from doorward.core.verdict import Allow, Assurance, Cause, Code, Deny, Principal, Source, Unavailable, Verdict
from doorward.runtime.e2e import E2eTokens
from doorward.runtime.fallback import Fallback, unavailable
from doorward.runtime.gate import Gate, Unanswered
from doorward.runtime.inquiry import Inquirer
from doorward.runtime.keyset_refresher import KeysetRefresher
from doorward.runtime.known import Known
from doorward.runtime.memory import NodeMemory
from doorward.runtime.ports import Clock
from doorward.runtime.singleflight import SingleFlight, landed
from doorward.runtime.telemetry import Telemetry, Trace
from doorward.runtime.token_reader import Read, Reading, Subject, TokenReader
from doorward.runtime.tracing import DecisionSpan

ANSWER_MARGIN_SECONDS = 0.05
"""Waiting ends this long before the deadline, so that the answer is out in time and not just decided in time."""


@dataclass(frozen=True, slots=True)
class AuthPolicy:
    """What the tokens of an issuer are judged by. Seconds.

    `audiences`: those that are accepted, in order. `asks`: somebody can be asked about a token that is no JWT. `probes`: a
    handshake that holds a fallback may find out whether the service is back; for where no canary flies.
    """

    claims: ClaimsPolicy
    algorithms: frozenset[str]
    typ: str | None
    audiences: tuple[str, ...]
    remote: bool = True
    asks: bool = True
    question_seconds: float = 2.0
    patience_seconds: float = 0.5
    probes: bool = False
    degraded: degrade.DegradePolicy = field(default_factory=degrade.DegradePolicy)


@dataclass(frozen=True, slots=True)
class Question:
    """A question to the auth service that is still open: what to do with the answer, and until when to wait for it."""

    subject: Subject
    route: Route
    flight: asyncio.Task[Finding]
    deadline: Deadline


class Judgement(msgspec.Struct, frozen=True):
    """A verdict with what is needed to stand by it. `question` is there for a provisional `Allow` only.

    `issuer`: the name of the issuer whose token it is; empty where nobody's was found.
    """

    verdict: Verdict
    subject: Subject | None = None
    question: Question | None = None
    issuer: str = ""


Judging = Judgement | Coroutine[Any, Any, Judgement]
"""A judgement, or what to await for it, at once."""

Finding = Principal | Invalid | Unanswered
"""What a flight brings: who it is, a definitive no, or could not ask."""


class Verifier:
    """Args:
    name: of the issuer, in the settings.
    e2e: judges test tokens, where this is the issuer in whose outages they count.
    """

    def __init__(
        self,
        name: str,
        policy: AuthPolicy,
        *,
        inquirer: Inquirer,
        gate: Gate,
        cache: VerdictCache,
        memory: NodeMemory,
        keys: KeysetRefresher,
        degraded_rate: TokenBucket,
        clock: Clock,
        telemetry: Telemetry,
        e2e: E2eTokens | None = None,
    ) -> None:
        self.name = name
        self.policy = policy
        self._inquirer = inquirer
        self._gate = gate
        self._cache = cache
        self._clock = clock
        self._telemetry = telemetry
        self._e2e = e2e
        self._flights: SingleFlight[Finding] = SingleFlight()
        binding = "\0".join((policy.claims.issuer, *policy.audiences, "")).encode()
        self._reader = TokenReader(
            keys,
            policy.claims,
            clock,
            algorithms=policy.algorithms,
            typ=policy.typ,
            binding=binding,
            needs_keys=not policy.remote,
            takes_opaque=policy.asks,
        )
        self._known = Known(cache, memory, policy.claims, audiences=policy.audiences, clock=clock)
        self._degraded = Fallback(policy.degraded, self._known, keys, degraded_rate, clock=clock, telemetry=telemetry)

    async def aclose(self, *, seconds: float) -> None:
        await self._flights.aclose(seconds=seconds)

    async def judge(
        self, token: str, route: Route, deadline: Deadline, trace: Trace, *, patient: bool = True
    ) -> Judgement:
        """The verdict on a token: for a handshake, and for an in-band refresh.

        Args:
            patient: with a fallback in hand, do not wait to the deadline but let in provisionally.

        Cancellation: the question, if one was asked, goes on for whoever shares it; nothing else is left behind.
        """
        judging = self.judging(token, route, deadline, trace, patient=patient)
        return judging if isinstance(judging, Judgement) else await judging

    def judging(
        self,
        token: str,
        route: Route,
        deadline: Deadline,
        trace: Trace,
        *,
        patient: bool = True,
        reading: Read | None = None,
    ) -> Judging:
        """As `judge`, and there at once where nothing has to be waited for, which is mostly so.

        Args:
            reading: of the token, if it was waited for.
        """
        wall_now = self._clock.wall()
        if reading is None:
            key = self._reader.key_of(token)
            reading = self._reader.proven(key, wall_now)
            if reading is None:
                if is_test_token(token):
                    detail = "a test token, and not where it may open a connection"
                    return Judgement(Deny(Code.TOKEN_INVALID, Source.E2E, detail), issuer=self.name)
                found = self._reader.read(token, key, waiting_of(deadline))
                if not isinstance(found, Read):
                    return self._judged_later(found, token, route, deadline, trace, patient=patient)
                reading = found
        trace.mark("local")
        if not isinstance(reading, Reading):
            return Judgement(reading, issuer=self.name)
        subject = Subject(token, reading)
        verdict = self._without_asking(subject, wall_now)
        trace.mark("cache")
        if verdict is None:
            return self._asked(subject, route, deadline, trace, patient=patient)
        return Judgement(self.permitted(verdict, route), subject, None, self.name)

    async def _judged_later(
        self,
        found: Coroutine[Any, Any, Read],
        token: str,
        route: Route,
        deadline: Deadline,
        trace: Trace,
        *,
        patient: bool,
    ) -> Judgement:
        judging = self.judging(token, route, deadline, trace, patient=patient, reading=await found)
        return judging if isinstance(judging, Judgement) else await judging

    async def _asked(
        self, subject: Subject, route: Route, deadline: Deadline, trace: Trace, *, patient: bool
    ) -> Judgement:
        verdict, question = await self._remote(subject, route, deadline, trace, patient=patient)
        return Judgement(self.permitted(verdict, route), subject, question, self.name)

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
        revoked = self._known.revoked(subject.reading, self._known.entry(subject.reading))
        if revoked is not None:
            return revoked
        flight = self._flights.get(subject.key) or self._start(subject, deadline)
        if isinstance(flight, Unanswered):
            return unavailable(flight, Source.REMOTE)
        await landed(flight, deadline.remaining(self._clock.monotonic()))
        finding = _finding(flight)
        if isinstance(finding, Unanswered):
            return unavailable(finding, Source.REMOTE)
        return self.permitted(self._found(subject, route, finding), route)

    @property
    def knows_revocations(self) -> bool:
        """Is it worth asking `is_revoked`?"""
        return len(self._known.memory.revocations) > 0

    def is_revoked(self, principal: Principal, good_at: float | None) -> bool:
        """Asked once more when the connection is registered: a revocation may have come in meanwhile."""
        return self._known.memory.revocations.is_revoked(principal, good_at)

    def validated_at(self, reading: Reading) -> float | None:
        """When we last asked about a token that was then called valid: wall-clock seconds. Stands in for a missing `iat`."""
        return self._known.validated_at(reading)

    def permitted(self, verdict: Verdict, route: Route) -> Verdict:
        """The route's own demands. What only a degraded admission lacks is `Unavailable`: it is not a *no*."""
        if not route.required_scopes or not isinstance(verdict, Allow):
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

    @property
    def takes_test_tokens(self) -> bool:
        return self._e2e is not None

    async def judge_test_token(self, token: str, route: Route, deadline: Deadline, trace: Trace) -> Judgement:
        """The verdict on a test token, by which somebody may come in while *this* auth service cannot be asked.

        Cancellation: as of `E2eTokens.judge`.
        """
        assert self._e2e is not None  # noqa: S101 - asked only where it takes test tokens; this tells the type checker
        key = self._reader.key_of(token)
        verdict = await self._e2e.judge(token, route, waiting_of(deadline), shown=key.shown)
        trace.mark("e2e")
        return Judgement(verdict, Subject(token, Reading(key, Lane.UNPROVEN, is_jwt=True)), None, self.name)

    # REVOKED, CACHE

    def _without_asking(self, subject: Subject, wall_now: float) -> Allow | Deny | None:
        reading = subject.reading
        entry = self._known.entry(reading)
        refusal = self._known.revoked(reading, entry)
        if refusal is not None:
            return refusal
        if reading.local is not None and not self.policy.remote:
            return Allow(reading.local, Assurance.LOCAL, Source.LOCAL)
        now = self._clock.monotonic()
        if entry is not None and entry.is_fresh(now, wall_now):
            if self._cache.claim_refresh(entry, now) and self._flights.get(reading.key) is None:
                self._start(subject, Deadline.after(now, self.policy.question_seconds))
            return entry.admission
        if self._cache.is_rejected(reading.key, now):
            return Deny(Code.TOKEN_REJECTED, Source.CACHE)
        return None

    # GATE, REMOTE

    async def _remote(
        self, subject: Subject, route: Route, deadline: Deadline, trace: Trace, *, patient: bool
    ) -> tuple[Verdict, Question | None]:
        waiting = waiting_of(deadline)
        grant = self._degraded.grant(subject, route)
        flight = self._flights.get(subject.key)
        if flight is None:
            started = self._start(subject, deadline, probe=self._may_probe(grant), asker=trace.span)
            trace.mark("gate")
            if isinstance(started, Unanswered):
                return self._fallback(subject, route, started), None
            flight = started
        elif trace.span is not None:
            trace.span.waits_for(flight)
        if patient and isinstance(grant, degrade.Grant):
            patience = waiting.earlier(trace.began + self.policy.patience_seconds)
            if not await landed(flight, patience.remaining(self._clock.monotonic())):
                verdict = self._degraded.provisional(subject, route)
                if verdict is not None:
                    trace.mark("patience")
                    self._telemetry.metrics.wait_bounded("patience")
                    return verdict, Question(subject, route, flight, deadline)
        await landed(flight, waiting.remaining(self._clock.monotonic()))
        trace.mark("remote")
        return self._found(subject, route, _finding(flight)), None

    def _may_probe(self, grant: degrade.Grant | degrade.Refusal) -> bool:
        """Where no canary flies, or the service throttles it, a handshake that holds a fallback may find out.

        One without a fallback may if nobody with one has come for a while: the breaker must not stay open for ever.
        """
        if not self.policy.probes and self._gate.throttled_seconds(Lane.UNPROVEN) == 0:
            return False
        return isinstance(grant, degrade.Grant) or self._gate.is_overdue

    def _start(
        self, subject: Subject, deadline: Deadline, *, probe: bool = False, asker: DecisionSpan | None = None
    ) -> asyncio.Task[Finding] | Unanswered:
        passed = self._gate.enter(subject.reading.lane, probe=probe)
        if isinstance(passed, Unanswered):
            return passed

        asked_at = self._clock.wall()

        async def fly() -> Finding:
            with slot:
                answer = await self._inquirer.ask(
                    subject.token,
                    passed,
                    deadline,
                    complaint=lambda answer: self._known.mismatch(subject.reading, answer),
                    asker=asker,
                )
            return await self._learn(subject, answer, asked_at)

        slot = ExitStack()
        slot.callback(self._gate.leave, passed)
        flight = self._flights.start(subject.key, fly())
        flight.add_done_callback(lambda _: slot.close())  # for one that is cancelled before its first step
        return flight

    async def _learn(self, subject: Subject, answer: Valid | Invalid | Unanswered, asked_at: float) -> Finding:
        """Remember a live answer: cache, bar, contact."""
        if isinstance(answer, Valid):
            return await self._known.learn_valid(subject, answer, asked_at)
        if isinstance(answer, Invalid):
            await self._known.learn_invalid(subject)
        return answer

    def _found(self, subject: Subject, route: Route, finding: Finding) -> Verdict:
        if isinstance(finding, Unanswered):
            return self._fallback(subject, route, finding)
        if isinstance(finding, Invalid):
            return Deny(Code.TOKEN_REJECTED, Source.REMOTE, finding.reason)
        if is_expired(finding, self.policy.claims, self._clock.wall()):
            return Deny(Code.TOKEN_EXPIRED, Source.REMOTE)
        if self.is_revoked(finding, self.validated_at(subject.reading)):
            return Deny(Code.TOKEN_REVOKED, Source.REVOKED)
        return Allow(finding, Assurance.LIVE, Source.REMOTE)

    def _fallback(self, subject: Subject, route: Route, unanswered: Unanswered) -> Verdict:
        return self._degraded.decide(subject, route, unanswered)

    def _outage_cause(self) -> Cause:
        suspect = self._gate.suspect
        return suspect.cause if suspect is not None and suspect.cause is not None else Cause.BREAKER_OPEN


def waiting_of(deadline: Deadline) -> Deadline:
    """Until when to wait, so that the answer is out in time."""
    return Deadline(deadline.at - ANSWER_MARGIN_SECONDS)


def _finding(flight: asyncio.Task[Finding]) -> Finding:
    """What the flight brought, if it is back; a flight that was cancelled or broke brought nothing."""
    if not flight.done():
        return Unanswered(Code.SERVICE_UNAVAILABLE, Cause.DEADLINE, "no answer before the deadline")
    if flight.cancelled() or flight.exception() is not None:
        return Unanswered(Code.SERVICE_UNAVAILABLE, Cause.UPSTREAM, "the question was cut short")
    return flight.result()
