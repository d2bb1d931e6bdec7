"""Whose a token is, where several issuers count: nobody is asked but the one that it names."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from tests.runtime_kit import AUDIENCE, Runtime, allowed, handshake_of, page, told, virtual

from doorward.core.answer import Valid
from doorward.core.claims import ClaimsPolicy
from doorward.core.degrade import DegradePolicy, Mode
from doorward.core.limits import AddressLimit, Bulkhead
from doorward.core.verdict import Assurance, Cause, Code, Deny, Source, Verdict
from doorward.errors import ConnectError
from doorward.runtime.authenticator import Authenticator, HandshakePolicy
from doorward.runtime.ports import RevocationItem
from doorward.runtime.telemetry import Trace
from doorward.runtime.verifiers import Verifiers
from doorward.testing import TokenMint, opaque_token

OURS, ACME = "https://auth.example.test", "https://acme.example.test"


@dataclass
class Two:
    """Two issuers behind one pipeline, each with a runtime of its own."""

    ours: Runtime
    acme: Runtime
    front: Authenticator

    async def verdict(self, token: str) -> Verdict:
        deadline = self.ours.deadline()
        judgement = await self.front.decide(handshake_of(token), deadline, Trace(self.ours.clock))
        if judgement.question is None:
            return judgement.verdict
        verifiers = {"auth": self.ours.verifier, "acme": self.acme.verifier}
        return await verifiers[judgement.issuer].settle(judgement.question)

    @property
    def asked(self) -> tuple[int, int]:
        return len(self.ours.validator.asked), len(self.acme.validator.asked)


async def two(*, opaque: str | None = "auth", bulkhead: Bulkhead | None = None) -> Two:
    local = DegradePolicy(mode=Mode.LOCAL_JWT)
    ours = Runtime(claims=ClaimsPolicy(OURS, frozenset({AUDIENCE}), reserved=("acme:",)), degraded=local)
    acme = Runtime(
        "acme",
        clock=ours.clock,
        mint=TokenMint(ACME, audience=AUDIENCE, wall=ours.clock.wall),
        claims=ClaimsPolicy(ACME, frozenset({AUDIENCE}), tenant="acme"),
        degraded=local,
        bulkhead=bulkhead,
    )
    for each in (ours, acme):
        await each.start()
        await each.memory.contact()
    by_name = {"auth": ours.verifier, "acme": acme.verifier}
    verifiers = Verifiers(list(by_name.values()), opaque=by_name[opaque] if opaque is not None else None)
    front = Authenticator(HandshakePolicy(), verifiers, addresses=AddressLimit(1e6, 1e6), clock=ours.clock)
    return Two(ours, acme, front)


@virtual
async def test_each_is_asked_about_its_own() -> None:
    both = await two()
    ours, theirs = allowed(await both.verdict(both.ours.token())), allowed(await both.verdict(both.acme.token()))
    assert both.asked == (1, 1)
    assert [verdict.principal.user_id for verdict in (ours, theirs)] == ["ada", "acme:ada"]
    assert [verdict.principal.tenant for verdict in (ours, theirs)] == [None, "acme"]
    assert [verdict.principal.issuer for verdict in (ours, theirs)] == [OURS, ACME]


@pytest.mark.parametrize(
    ("issuer", "words"),
    [
        ("https://evil.example", "none of the issuers"),
        (f"{ACME}/", "a slash at its end or by case"),
        ("https://ACME.example.test", "a slash at its end or by case"),
        (f"{ACME} ", "none of the issuers"),
        ("acme", "none of the issuers"),
        (None, "none of the issuers"),
        (["https://acme.example.test"], "none of the issuers"),
    ],
)
def test_another_issuer_is_nobodys_and_costs_no_call(issuer: object, words: str) -> None:
    @virtual
    async def main() -> None:
        both = await two()
        fetches = both.ours.source.fetches, both.acme.source.fetches
        for mint in (both.ours.mint, both.acme.mint):
            verdict = await both.verdict(mint.sign(mint.claims(iss=issuer)))
            assert isinstance(verdict, Deny)
            assert (verdict.code, verdict.source) == (Code.TOKEN_INVALID, Source.LOCAL)
            assert words in verdict.detail
        assert both.asked == (0, 0)
        assert (both.ours.source.fetches, both.acme.source.fetches) == fetches

    main()


@virtual
async def test_a_good_signature_of_the_one_does_not_count_for_the_other() -> None:
    both = await two()
    for mint, issuer in ((both.ours.mint, ACME), (both.acme.mint, OURS)):
        verdict = await both.verdict(mint.sign(mint.claims(iss=issuer)))
        assert told(verdict)[0] is Code.TOKEN_INVALID
    assert both.asked == (0, 0)


@pytest.mark.parametrize(("opaque", "asked"), [("auth", (1, 0)), ("acme", (0, 1)), (None, (0, 0))])
def test_opaque_tokens_are_of_one_at_most(opaque: str | None, asked: tuple[int, int]) -> None:
    @virtual
    async def main() -> None:
        both = await two(opaque=opaque)
        verdict = await both.verdict(opaque_token())
        assert both.asked == asked
        if opaque is None:
            assert told(verdict) == (Code.TOKEN_INVALID, Source.LOCAL, None)
        else:
            assert allowed(verdict).principal.tenant == (None if opaque == "auth" else opaque)

    main()


@virtual
async def test_the_only_one_may_take_no_opaque_tokens() -> None:
    runtime = Runtime()
    await runtime.start()
    verifiers = Verifiers([runtime.verifier], opaque=None)
    assert isinstance(verifiers.of(opaque_token()), Deny)
    assert verifiers.of(runtime.token()) is runtime.verifier


@virtual
async def test_the_outage_of_one_is_none_of_the_other() -> None:
    both = await two()
    both.acme.goes_down()
    for _ in range(6):
        await both.verdict(both.acme.token())
    assert (both.acme.gate.in_outage, both.ours.gate.in_outage) == (True, False)
    assert allowed(await both.verdict(both.acme.token())).degraded
    verdict = allowed(await both.verdict(both.ours.token()))
    assert (verdict.assurance, verdict.degraded) == (Assurance.LIVE, False)
    assert both.ours.metrics.counts["attempt", "auth", "valid"] == 1
    assert both.acme.metrics.counts["attempt", "acme", "connect_error"] > 0


@virtual
async def test_a_full_bulkhead_of_one_is_none_of_the_other() -> None:
    both = await two(bulkhead=Bulkhead(1, unproven=1, abandoned=1))
    both.acme.validator.seconds = 1.0
    held = both.acme.gate.bulkhead
    held.in_flight[next(iter(held.in_flight))] += 1
    assert told(await both.verdict(both.acme.token(iat=None)))[0] is Code.OVERLOADED
    assert allowed(await both.verdict(both.ours.token())).assurance is Assurance.LIVE


@virtual
async def test_a_feed_revokes_its_own_users_only() -> None:
    both = await two()
    ours, theirs = both.ours.token(jti="j1", sid="s1"), both.acme.token(jti="j1", sid="s1")
    for token in (ours, theirs):
        allowed(await both.verdict(token))
    for number, item in enumerate(
        (RevocationItem(user_id="ada", not_before_ms=10**15), RevocationItem(jti="j1"), RevocationItem(session_id="s1"))
    ):
        wall = both.acme.clock.wall()
        await both.acme.memory.apply(page(str(number), item), snapshot=True, complete_at=wall)
        assert told(await both.verdict(theirs))[0] is Code.TOKEN_REVOKED
        allowed(await both.verdict(ours))


@virtual
async def test_a_bar_of_one_is_none_of_the_other() -> None:
    """Both write into one store, as they do on a node."""
    both = await two(opaque="acme")
    token = opaque_token()
    both.acme.rejected.add(token)
    assert told(await both.verdict(token))[0] is Code.TOKEN_REJECTED
    assert (len(both.acme.memory.bars), len(both.ours.memory.bars)) == (1, 0)


@virtual
async def test_an_answer_with_a_name_of_another_tenant_is_believed_of_nobody() -> None:
    both = await two()
    both.ours.validator.outcome = Valid("acme:ada")
    verdict = await both.verdict(opaque_token())
    assert told(verdict) == (Code.SERVICE_UNAVAILABLE, Source.FALLBACK, Cause.PROTOCOL)
    both.ours.validator.outcome = ConnectError("refused")
    assert told(await both.verdict(both.ours.token("acme:ada")))[0] is Code.TOKEN_INVALID
