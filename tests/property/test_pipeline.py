"""Any history of tokens, faults and restarts: no Allow without proof, no Deny out of an outage, always in time.

The machine keeps its own books of what the auth service really said, and judges every verdict by them alone.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from tests.runtime_kit import DEADLINE_SECONDS, Runtime, page, valid_of

from doorward.core.answer import Invalid, Valid
from doorward.core.breaker import State
from doorward.core.degrade import DegradePolicy, Mode
from doorward.core.limits import Lane
from doorward.core.routes import Route
from doorward.core.verdict import Action, Allow, Assurance, Code, Deny, Verdict, row_of
from doorward.errors import BadAnswer, BadStatus, ConnectError, ServiceCredentialRefused, Throttled
from doorward.runtime.ports import RevocationItem
from doorward.testing import VirtualLoop, opaque_token

T = TypeVar("T")

DEGRADED = DegradePolicy(mode=Mode.LOCAL_JWT, privileged_scopes=frozenset({"admin"}))
LEEWAY_SECONDS = 5.0
CACHE_SECONDS = 60.0
MODES = ("up", "slow", "hangs", "refuses", "500", "401 to us", "429", "garbage", "another user")
ROUTES = (Route(), Route(allow_degraded=False), Route(required_scopes=frozenset({"admin"})))

REAL = frozenset({"jwt", "opaque"})

tokens = st.integers(0, 10_000)
moments = st.sampled_from((0.0, 0.3, 3.0, 20.0, 61.0, 290.0, 700.0, 1_900.0, 3_500.0))


@dataclass
class Issued:
    """A token, and what the machine knows of it. Wall-clock seconds."""

    token: str
    kind: str
    kid: str | None = None
    issued_at: float | None = None
    expires_at: float | None = None
    jti: str | None = None
    said_valid_at: float = float("-inf")
    stands_refused: bool = False
    """The last answer was no; times do not tell, for two answers may come in the same instant."""
    is_revoked: bool = False


class AnyHistory(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.loop = VirtualLoop(limit_seconds=1e9)
        self.numbers = itertools.count()
        self.issued: list[Issued] = []
        self.by_token: dict[str, Issued] = {}
        self.mode = "up"
        self.answered_at = float("-inf")
        self.feed_at: float | None = None
        self.published: frozenset[str] = frozenset()
        self.cursor = 0
        self.run(self._start(None))

    def teardown(self) -> None:
        try:
            self.run(self._is_healed_and_quiet())
        finally:
            self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    # What happens

    @rule(kind=st.sampled_from(("jwt", "jwt", "opaque", "admin")), ttl=st.sampled_from((30.0, 600.0, 5_000.0)))
    def issue(self, kind: str, ttl: float) -> None:
        self.run(self._issue(kind, ttl))

    @rule(kind=st.sampled_from(("forged", "expired", "unknown_kid", "alg_none", "hs256_confusion")))
    def forge(self, kind: str) -> None:
        async def make() -> None:
            self._add(Issued(getattr(self.runtime.mint, kind)("mallory"), kind))

        self.run(make())

    @rule(which=tokens)
    def reject(self, which: int) -> None:
        if issued := self._pick(which):
            self.runtime.rejected.add(issued.token)

    @rule(which=tokens)
    def accept_again(self, which: int) -> None:
        if issued := self._pick(which):
            self.runtime.rejected.discard(issued.token)

    @rule(which=tokens)
    def revoke(self, which: int) -> None:
        """The feed brings it at once; by itself it is no answer of the auth service."""
        issued = self._pick(which)
        if issued is not None and issued.jti is not None:
            issued.is_revoked = True
            self.run(self._poll(RevocationItem(jti=issued.jti)))

    @rule()
    def poll(self) -> None:
        self.run(self._poll())

    @rule(mode=st.sampled_from(MODES))
    def turn(self, mode: str) -> None:
        self.mode = mode
        self.runtime.validator.seconds = {"slow": 1.0, "hangs": 3_600.0}.get(mode, 0.0)

    @rule(seconds=moments)
    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule(keep_old=st.booleans(), publish=st.booleans())
    def rotate(self, keep_old: bool, publish: bool) -> None:
        self.runtime.mint.rotate(keep_old=keep_old, publish=publish)

    @rule(works=st.booleans())
    def refresh_keys(self, works: bool) -> None:
        self.runtime.source.error = None if works else ConnectError("refused")
        self.run(self.runtime.keys._fetch())

    @rule()
    def fly_canary(self) -> None:
        self.run(self.runtime.canary.fly())

    @rule()
    def restart(self) -> None:
        self.run(self._start(self.runtime))

    @rule(which=st.lists(tokens, min_size=1, max_size=4), route=st.sampled_from(ROUTES))
    def handshakes(self, which: Sequence[int], route: Route) -> None:
        chosen = [issued for number in which if (issued := self._pick(number)) is not None]
        self.run(self._handshakes(chosen, route))

    @rule()
    def repair(self) -> None:
        self.run(self._is_healed_and_quiet())

    # How it is done

    async def _start(self, before: Runtime | None) -> None:
        options: dict[str, Any] = {"degraded": DEGRADED}
        if before is not None:
            await before.aclose()
            options |= {"store": before.store, "files": before.files, "mint": before.mint}
        runtime = self.runtime = Runtime(**options)
        runtime.validator.outcome = self._say
        if before is not None:
            runtime.rejected, runtime.source = before.rejected, before.source
            runtime.validator.seconds = before.validator.seconds
        runtime.keys._source = self
        await runtime.memory.open()
        await runtime.keys.load()

    async def fetch(self, *, deadline: object) -> bytes:
        """The key set, with a note of what it held."""
        if self.runtime.source.error is not None:
            raise self.runtime.source.error
        key_set = self.runtime.mint.key_set()
        if key_set["keys"]:
            self.published = frozenset(key["kid"] for key in key_set["keys"])
        return json.dumps(key_set).encode()

    def _say(self, token: str) -> Valid | Invalid | Exception:
        """What the auth service answers now, with a note of it."""
        trouble: dict[str, Exception] = {
            "refuses": ConnectError("refused"),
            "500": BadStatus(500),
            "401 to us": ServiceCredentialRefused("401"),
            "429": Throttled(429, 5.0),
            "garbage": BadAnswer("not JSON"),
        }
        if self.mode in trouble:
            return trouble[self.mode]
        issued, wall = self.by_token.get(token), self.runtime.clock.wall()
        if issued is not None and issued.kind not in REAL:
            issued.stands_refused, self.answered_at = True, wall
            return Invalid("no")
        readable = issued is not None and issued.kind == "jwt" and self.runtime.keys.keyset is not None
        if readable and self.mode == "another user":  # without keys nobody can tell, and the service is believed
            return Valid("mallory")
        self.answered_at = wall
        expired = issued is not None and issued.expires_at is not None and issued.expires_at <= wall
        if issued is None or expired or token in self.runtime.rejected or issued.is_revoked:
            if issued is not None:
                issued.stands_refused = True
            return Invalid("no")
        issued.said_valid_at, issued.stands_refused = wall, False
        return valid_of(token)

    async def _issue(self, kind: str, ttl: float) -> None:
        wall, user = self.runtime.clock.wall(), f"user{next(self.numbers)}"
        if kind == "opaque":
            self._add(Issued(opaque_token(), kind))
            return
        jti = f"jti-{user}"
        permissions = ["chat", "admin"] if kind == "admin" else ["chat"]
        token = self.runtime.token(user, jti=jti, permissions=permissions, ttl_seconds=ttl)
        self._add(Issued(token, "jwt", self.runtime.mint.kid, int(wall), int(wall + ttl), jti))

    def _add(self, issued: Issued) -> None:
        self.issued.append(issued)
        self.by_token[issued.token] = issued

    def _pick(self, number: int) -> Issued | None:
        """One of the last few, so that histories of one token are long."""
        recent = self.issued[-6:]
        return recent[number % len(recent)] if recent else None

    async def _poll(self, *items: RevocationItem) -> None:
        self.cursor += 1
        self.feed_at = self.runtime.clock.wall()
        snapshot = self.runtime.memory.feed_cursor is None
        await self.runtime.memory.apply(page(str(self.cursor), *items), snapshot=snapshot, complete_at=self.feed_at)

    async def _handshakes(self, chosen: Sequence[Issued], route: Route) -> None:
        await asyncio.gather(*(self._handshake(issued, route) for issued in chosen))

    async def _handshake(self, issued: Issued, route: Route) -> None:
        runtime = self.runtime
        began, asked = runtime.clock.monotonic(), len(runtime.validator.asked)
        has_keys = runtime.keys.keyset is not None
        judgement = await runtime.decide(issued.token, route=route)
        assert runtime.clock.monotonic() - began <= DEADLINE_SECONDS
        self._check(issued, judgement.verdict, route)
        if has_keys and issued.kind not in REAL:
            assert issued.token not in runtime.validator.asked[asked:], "a forged token was asked about"
            assert not isinstance(judgement.verdict, Allow)
        if judgement.question is not None:
            verdict = await runtime.verifier.settle(judgement.question)
            assert runtime.clock.monotonic() - began <= DEADLINE_SECONDS + 0.001
            assert not (isinstance(verdict, Allow) and verdict.provisional), "a late verdict is final"
            self._check(issued, verdict, route)

    # What must hold

    def _check(self, issued: Issued, verdict: Verdict, route: Route) -> None:
        if isinstance(verdict, Allow):
            self._check_allow(issued, verdict, route)
        elif isinstance(verdict, Deny):
            self._check_deny(issued, verdict, route)
        else:
            assert row_of(verdict).action is Action.RETRY

    def _check_allow(self, issued: Issued, verdict: Allow, route: Route) -> None:
        wall = self.runtime.clock.wall()
        assert issued.kind in REAL, "a token that nobody issued"
        assert not issued.is_revoked
        assert not issued.stands_refused, "it was refused live, and not called valid since"
        assert issued.expires_at is None or wall < issued.expires_at + LEEWAY_SECONDS
        kept = verdict.principal.permissions - (DEGRADED.privileged_scopes if verdict.degraded else frozenset())
        assert route.required_scopes <= kept
        since_valid = wall - issued.said_valid_at
        if not verdict.degraded and not verdict.provisional:
            assert verdict.assurance in {Assurance.LIVE, Assurance.CACHED}
            assert since_valid <= (DEADLINE_SECONDS if verdict.assurance is Assurance.LIVE else CACHE_SECONDS)
            return
        assert route.allow_degraded
        assert wall - self.answered_at < DEGRADED.max_outage_seconds
        assert self.feed_at is None or self.answered_at - self.feed_at <= DEGRADED.max_feed_age_seconds
        assert issued.expires_at is None or wall < issued.expires_at
        if verdict.assurance is Assurance.CACHED:
            assert since_valid <= DEGRADED.max_stale_seconds
        else:
            assert issued.kind == "jwt"
            assert issued.kid in self.published
            assert issued.issued_at is not None
            assert wall - issued.issued_at <= DEGRADED.max_token_age_seconds

    def _check_deny(self, issued: Issued, verdict: Deny, route: Route) -> None:
        """A no is always somebody's word about this very token, never the want of one."""
        wall = self.runtime.clock.wall()
        reasons = {
            Code.TOKEN_REJECTED: issued.stands_refused,
            Code.TOKEN_REVOKED: issued.is_revoked,
            Code.TOKEN_EXPIRED: issued.kind == "expired"
            or (issued.expires_at is not None and wall >= issued.expires_at + LEEWAY_SECONDS),
            Code.TOKEN_INVALID: issued.kind not in REAL or (issued.kind == "jwt" and issued.kid not in self.published),
            Code.FORBIDDEN: bool(route.required_scopes) and wall - issued.said_valid_at <= CACHE_SECONDS,
        }
        assert reasons[verdict.code], f"{verdict.code} for a {issued.kind} token"

    async def _is_healed_and_quiet(self) -> None:
        """Never stuck: the auth service is well, and two canaries later all is normal, whatever happened before."""
        self.turn("up")
        self.runtime.source.error = None
        await asyncio.sleep(DEADLINE_SECONDS + self.runtime.gate.throttled_seconds(Lane.UNPROVEN))
        for _ in range(2):
            assert await self.runtime.canary.fly()
        assert self.runtime.gate.breaker.state is State.CLOSED
        assert not self.runtime.gate.in_outage
        assert self.runtime.is_quiet()


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
