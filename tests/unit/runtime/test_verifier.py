"""An issuer's tokens over fake ports in virtual time: which verdict, from which step, and when."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import Any

import pytest
from tests.runtime_kit import (
    DEADLINE_SECONDS,
    ISSUER,
    FakeStore,
    Runtime,
    allowed,
    claims_of,
    page,
    told,
    valid_of,
    virtual,
)

from doorward.core.answer import Invalid, Valid
from doorward.core.breaker import Permit, State
from doorward.core.claims import ClaimsPolicy
from doorward.core.decisions import CachePolicy
from doorward.core.degrade import DegradePolicy, Mode
from doorward.core.limits import Bulkhead, Lane, TokenBucket
from doorward.core.routes import Route
from doorward.core.verdict import Allow, Assurance, Cause, Code, Principal, Source, Unavailable
from doorward.errors import BadAnswer, ConnectError, ServiceCredentialRefused, StoreError, Throttled
from doorward.runtime.gate import Unanswered
from doorward.runtime.inquiry import classified
from doorward.runtime.ports import RevocationItem
from doorward.runtime.telemetry import Trace
from doorward.runtime.verifier import ANSWER_MARGIN_SECONDS
from doorward.testing import opaque_token

LOCAL_JWT = DegradePolicy(mode=Mode.LOCAL_JWT)
DOWN = ConnectError("refused")
DOWN_UNANSWERED: Unanswered = classified(DOWN)


async def started(**options: Any) -> Runtime:
    """A runtime that has just heard from the auth service."""
    runtime = Runtime(**{"degraded": LOCAL_JWT, **options})
    await runtime.start()
    await runtime.memory.contact()
    return runtime


def invalid(*_: object) -> Invalid:
    return Invalid("no")


async def apart(runtime: Runtime, seconds: float) -> None:
    """Time passes, and the auth service was heard from just now."""
    await asyncio.sleep(seconds)
    await runtime.memory.contact()


# LOCAL


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("forged", "TOKEN_INVALID"),
        ("expired", "TOKEN_EXPIRED"),
        ("alg_none", "TOKEN_INVALID"),
        ("with_jku", "TOKEN_INVALID"),
    ],
)
def test_what_is_definitive_is_refused_without_a_question(kind: str, code: str) -> None:
    @virtual
    async def main() -> None:
        runtime = await started()
        assert told(await runtime.verdict(getattr(runtime.mint, kind)("ada"))) == (code, Source.LOCAL, None)
        assert runtime.validator.asked == []

    main()


@virtual
async def test_an_unknown_key_is_looked_up_once_and_then_known() -> None:
    runtime = await started()
    await asyncio.sleep(31.0)
    runtime.mint.rotate()
    assert allowed(await runtime.verdict(runtime.token())).assurance is Assurance.LIVE
    assert runtime.source.fetches == 2


@virtual
async def test_an_unknown_key_is_invalid_only_against_a_fresh_set() -> None:
    runtime = await started()
    assert told(await runtime.verdict(runtime.mint.unknown_kid())) == (Code.TOKEN_INVALID, Source.LOCAL, None)
    await asyncio.sleep(31.0)
    runtime.source.error = DOWN
    unknown = (Code.SERVICE_UNAVAILABLE, Source.LOCAL, Cause.KEYSET)
    assert told(await runtime.verdict(runtime.mint.unknown_kid())) == unknown
    runtime.source.error, runtime.source.seconds = None, 60.0
    await asyncio.sleep(31.0)
    began = runtime.clock.monotonic()
    assert told(await runtime.verdict(runtime.mint.unknown_kid())) == unknown
    assert runtime.clock.monotonic() - began <= DEADLINE_SECONDS
    assert runtime.validator.asked == []


@virtual
async def test_a_token_proven_before_is_not_verified_again_but_its_expiry_is_read() -> None:
    runtime = await started(remote=False)
    token = runtime.token(ttl_seconds=60)
    allowed(await runtime.verdict(token))
    allowed(await runtime.verdict(token))
    await asyncio.sleep(66.0)
    assert told(await runtime.verdict(token)) == (Code.TOKEN_EXPIRED, Source.LOCAL, None)


@virtual
async def test_a_proof_falls_with_its_key() -> None:
    runtime = await started(remote=False)
    token = runtime.token()
    allowed(await runtime.verdict(token))
    runtime.mint.rotate(keep_old=False)
    await asyncio.sleep(31.0)
    await runtime.keys.look_again(runtime.deadline())
    assert told(await runtime.verdict(token)) == (Code.TOKEN_INVALID, Source.LOCAL, None)


@virtual
async def test_verify_local_never_asks_and_waits_for_its_first_key_set() -> None:
    runtime = Runtime(remote=False)
    await runtime.memory.open()
    runtime.source.seconds = 0.5
    verdict = allowed(await runtime.verdict(runtime.token()))
    assert (verdict.assurance, verdict.source, verdict.degraded) == (Assurance.LOCAL, Source.LOCAL, False)
    assert runtime.validator.asked == []


@virtual
async def test_verify_local_refuses_what_its_first_key_set_does_not_know() -> None:
    runtime = Runtime(remote=False)
    await runtime.memory.open()
    assert told(await runtime.verdict(runtime.mint.unknown_kid())) == (Code.TOKEN_INVALID, Source.LOCAL, None)
    assert runtime.source.fetches == 1


@virtual
async def test_verify_local_without_any_key_set_could_not_ask() -> None:
    runtime = Runtime(remote=False)
    await runtime.memory.open()
    runtime.source.error = DOWN
    assert told(await runtime.verdict(runtime.token())) == (Code.SERVICE_UNAVAILABLE, Source.LOCAL, Cause.KEYSET)


@virtual
async def test_where_nobody_can_be_asked_only_a_jwt_counts() -> None:
    """A stranger's question with no secret of ours would be refused, and look like an outage."""
    runtime = Runtime(remote=False, asks=False)
    await runtime.start()
    assert told(await runtime.verdict(opaque_token())) == (Code.TOKEN_INVALID, Source.LOCAL, None)
    assert allowed(await runtime.verdict(runtime.token())).assurance is Assurance.LOCAL
    assert runtime.validator.asked == []
    assert not runtime.gate.in_outage


# REVOKED, CACHE


@virtual
async def test_a_revoked_token_is_refused_without_a_question() -> None:
    runtime = await started()
    token = runtime.token(jti="j1")
    await runtime.memory.apply(page("1", RevocationItem(jti="j1")), snapshot=True, complete_at=runtime.clock.wall())
    assert told(await runtime.verdict(token)) == (Code.TOKEN_REVOKED, Source.REVOKED, None)
    assert runtime.validator.asked == []


@virtual
async def test_a_session_that_only_the_answer_names_can_be_revoked() -> None:
    """The token has no `sid`: a cached verdict, a stale one and the admission itself must still know the session."""
    runtime = await started()
    token = runtime.token(sid=None)
    runtime.validator.outcome = lambda _: replace(valid_of(token), session_id="s1")
    assert allowed(await runtime.verdict(token)).principal.session_id == "s1"
    runtime.goes_down()
    await asyncio.sleep(61.0)
    assert allowed(await runtime.verdict(token)).principal.session_id == "s1"
    item = RevocationItem(session_id="s1")
    await runtime.memory.apply(page("1", item), snapshot=True, complete_at=runtime.clock.wall())
    assert told(await runtime.verdict(token)) == (Code.TOKEN_REVOKED, Source.REVOKED, None)


@virtual
async def test_a_revocation_that_comes_in_during_the_question_counts() -> None:
    runtime = await started()
    token = runtime.token(jti="j1")
    runtime.validator.seconds = 1.0
    deciding = asyncio.create_task(runtime.verdict(token))
    await asyncio.sleep(0.8)
    await runtime.memory.apply(page("1", RevocationItem(jti="j1")), snapshot=True, complete_at=runtime.clock.wall())
    assert told(await deciding) == (Code.TOKEN_REVOKED, Source.REVOKED, None)


@virtual
async def test_a_revocation_that_comes_in_during_an_outage_counts() -> None:
    runtime = await started()
    runtime.validator.seconds, runtime.validator.outcome = 0.4, DOWN
    token = runtime.token(jti="j1")
    deciding = asyncio.create_task(runtime.verdict(token))
    await asyncio.sleep(0.2)
    await runtime.memory.apply(page("1", RevocationItem(jti="j1")), snapshot=True, complete_at=runtime.clock.wall())
    assert told(await deciding) == (Code.TOKEN_REVOKED, Source.REVOKED, None)
    assert runtime.verifier.is_revoked(Principal("ada", ISSUER, jti="j1"), runtime.clock.wall())


@virtual
async def test_a_verdict_is_cached_and_asked_ahead_by_one_caller() -> None:
    runtime = await started()
    token = runtime.token()
    assert allowed(await runtime.verdict(token)).assurance is Assurance.LIVE
    for _ in range(5):
        assert allowed(await runtime.verdict(token)).assurance is Assurance.CACHED
    assert len(runtime.validator.asked) == 1
    await asyncio.sleep(50.0)
    for _ in range(5):
        assert allowed(await runtime.verdict(token)).assurance is Assurance.CACHED
    await asyncio.sleep(0.1)
    assert len(runtime.validator.asked) == 2
    await asyncio.sleep(30.0)
    assert allowed(await runtime.verdict(token)).assurance is Assurance.CACHED


@virtual
async def test_a_rejection_is_cached_for_five_seconds_and_then_asked_again() -> None:
    runtime = await started()
    token = runtime.token()
    runtime.rejected.add(token)
    assert told(await runtime.verdict(token)) == (Code.TOKEN_REJECTED, Source.REMOTE, None)
    assert told(await runtime.verdict(token)) == (Code.TOKEN_REJECTED, Source.CACHE, None)
    await asyncio.sleep(5.1)
    runtime.rejected.clear()
    assert allowed(await runtime.verdict(token)).assurance is Assurance.LIVE


@virtual
async def test_a_verdict_from_before_the_first_key_set_does_not_speak_for_the_claims() -> None:
    """Without keys a JWT is asked about like a stranger's; what came of it lacks the token's own identity."""
    runtime = await started()
    keyset, runtime.keys.keyset = runtime.keys.keyset, None
    token = runtime.token("ada", jti="j1")
    runtime.validator.outcome = Valid(user_id="mallory")
    assert allowed(await runtime.verdict(token)).principal.user_id == "mallory"
    runtime.keys.keyset = keyset
    assert told(await runtime.verdict(token)) == (Code.SERVICE_UNAVAILABLE, Source.FALLBACK, Cause.PROTOCOL)


# GATE, REMOTE


@virtual
async def test_the_answer_decides_permissions_session_and_the_earlier_expiry() -> None:
    runtime = await started()
    token = runtime.token("ada", permissions=["chat", "admin"], ttl_seconds=600, sid="s1")
    ends = runtime.clock.wall() + 60
    runtime.validator.outcome = Valid("ada", "ada@new.test", frozenset({"chat"}), "s1", ends)
    principal = allowed(await runtime.verdict(token)).principal
    assert (principal.email, principal.permissions, principal.expires_at) == (
        "ada@new.test",
        frozenset({"chat"}),
        ends,
    )
    assert principal.jti == claims_of(token)["jti"]


@pytest.mark.parametrize("answer", [Valid("mallory"), Valid("ada", session_id="other")], ids=["user", "session"])
def test_an_answer_about_somebody_else_lets_nobody_in(answer: Valid) -> None:
    @virtual
    async def main() -> None:
        runtime = await started()
        token = runtime.token("ada", sid="s1")
        runtime.validator.outcome = answer
        for _ in range(2):
            verdict = await runtime.verdict(token)
            assert told(verdict) == (Code.SERVICE_UNAVAILABLE, Source.FALLBACK, Cause.PROTOCOL)
        assert len(runtime.validator.asked) == 2, "a mismatch is never cached"
        runtime.comes_back()
        assert allowed(await runtime.verdict(token)).assurance is Assurance.LIVE, "nor does it bar the token"

    main()


@virtual
async def test_an_expired_or_revoked_answer_is_no_admission() -> None:
    runtime = await started()
    runtime.validator.outcome = Valid("ada", expires_at=runtime.clock.wall() - 60)
    assert told(await runtime.verdict("opaque-ada")) == (Code.TOKEN_EXPIRED, Source.REMOTE, None)
    runtime.validator.outcome = Valid("ada", session_id="s1")
    item = RevocationItem(session_id="s1")
    await runtime.memory.apply(page("1", item), snapshot=True, complete_at=runtime.clock.wall())
    assert told(await runtime.verdict("opaque-bob")) == (Code.TOKEN_REVOKED, Source.REVOKED, None)


@virtual
async def test_many_handshakes_with_one_token_are_one_question() -> None:
    runtime = await started()
    runtime.validator.seconds = 0.2
    token = runtime.token()
    verdicts = await asyncio.gather(*(runtime.verdict(token) for _ in range(50)))
    assert {allowed(verdict).assurance for verdict in verdicts} == {Assurance.LIVE}
    assert len(runtime.validator.asked) == 1


@virtual
async def test_a_stranger_waits_for_the_deadline_and_not_a_moment_longer() -> None:
    runtime = await started()
    runtime.validator.seconds = 3_600.0
    began = runtime.clock.monotonic()
    assert told(await runtime.verdict(opaque_token())) == (Code.SERVICE_UNAVAILABLE, Source.FALLBACK, Cause.DEADLINE)
    took = runtime.clock.monotonic() - began
    assert took == pytest.approx(DEADLINE_SECONDS - ANSWER_MARGIN_SECONDS)


@virtual
async def test_strangers_cannot_fill_the_bulkhead() -> None:
    runtime = await started(bulkhead=Bulkhead(4, unproven=2, abandoned=4))
    runtime.validator.seconds = 1.0
    strangers = [asyncio.create_task(runtime.verdict(opaque_token())) for _ in range(6)]
    await asyncio.sleep(0.1)
    assert allowed(await runtime.verdict(runtime.token())).assurance is Assurance.LIVE
    codes = [verdict.code for verdict in await asyncio.gather(*strangers) if isinstance(verdict, Unavailable)]
    assert codes == [Code.OVERLOADED] * 4


# Patience


@virtual
async def test_patience_lets_a_proven_token_in_and_a_late_yes_upgrades_it() -> None:
    runtime = await started()
    runtime.validator.seconds = 1.0
    began = runtime.clock.monotonic()
    judgement = await runtime.decide(runtime.token())
    assert runtime.clock.monotonic() - began == pytest.approx(0.5)
    verdict = allowed(judgement.verdict)
    assert (verdict.assurance, verdict.provisional, verdict.degraded) == (Assurance.LOCAL, True, False)
    assert judgement.question is not None
    assert allowed(await runtime.verifier.settle(judgement.question)).assurance is Assurance.LIVE
    assert runtime.clock.monotonic() - began == pytest.approx(1.0)


@virtual
async def test_a_late_no_is_a_no() -> None:
    runtime = await started()
    runtime.validator.seconds, runtime.validator.outcome = 1.0, invalid
    assert told(await runtime.verdict(runtime.token())) == (Code.TOKEN_REJECTED, Source.REMOTE, None)


@virtual
async def test_no_answer_by_the_deadline_is_decided_by_the_degraded_rules() -> None:
    runtime = await started()
    runtime.validator.seconds = 3_600.0
    verdict = allowed(await runtime.verdict(runtime.token()))
    assert (verdict.assurance, verdict.degraded, verdict.source) == (Assurance.LOCAL, True, Source.FALLBACK)
    runtime = await started(degraded_rate=TokenBucket(0.0, 0.0, 0.0))
    runtime.validator.seconds = 3_600.0
    assert told(await runtime.verdict(runtime.token())) == (Code.OVERLOADED, Source.FALLBACK, None)


@virtual
async def test_an_impatient_refresh_waits_for_the_answer() -> None:
    runtime = await started()
    runtime.validator.seconds = 1.0
    trace = Trace(runtime.clock)
    judgement = await runtime.verifier.judge(runtime.token(), Route(), runtime.deadline(), trace, patient=False)
    assert allowed(judgement.verdict).assurance is Assurance.LIVE
    assert judgement.question is None


@virtual
async def test_a_refusal_on_its_way_to_disk_is_not_outrun_by_patience() -> None:
    """The answer is here and says no; only the store is slow to note it."""
    runtime = await started(store=FakeStore(seconds=0.25))
    runtime.validator.seconds, runtime.validator.outcome = 0.4, invalid
    judgement = await runtime.decide(runtime.token())
    assert told(judgement.verdict) == (Code.TOKEN_REJECTED, Source.REMOTE, None)


@virtual
async def test_a_route_whose_scope_only_the_answer_may_bring_is_worth_the_wait() -> None:
    runtime = await started()
    runtime.validator.seconds = 1.0
    route = Route(required_scopes=frozenset({"chat"}))
    token = runtime.token(permissions=[])
    runtime.validator.outcome = Valid("ada", permissions=frozenset({"chat"}))
    judgement = await runtime.decide(token, route=route)
    assert allowed(judgement.verdict).assurance is Assurance.LIVE


# FALLBACK


@virtual
async def test_in_an_outage_the_proven_come_in_at_once_and_nobody_else() -> None:
    runtime = await started()
    runtime.goes_down()
    began = runtime.clock.monotonic()
    verdict = allowed(await runtime.verdict(runtime.token()))
    assert (verdict.assurance, verdict.degraded) == (Assurance.LOCAL, True)
    assert verdict.grant_until == pytest.approx(runtime.clock.wall() + 600, abs=1.0)
    assert told(await runtime.verdict(opaque_token())) == (Code.SERVICE_UNAVAILABLE, Source.FALLBACK, Cause.UPSTREAM)
    assert runtime.clock.monotonic() - began < 0.01


@virtual
async def test_a_stale_verdict_lets_an_opaque_token_in() -> None:
    runtime = await started()
    token = opaque_token()
    allowed(await runtime.verdict(token))
    runtime.goes_down()
    await asyncio.sleep(120.0)
    verdict = allowed(await runtime.verdict(token))
    assert (verdict.assurance, verdict.degraded) == (Assurance.CACHED, True)
    await apart(runtime, 1_800.0)
    assert told(await runtime.verdict(token))[2] is Cause.UPSTREAM


@virtual
async def test_degraded_permissions_are_the_claims_and_the_expiry_is_the_earlier() -> None:
    runtime = await started()
    token = runtime.token("ada", permissions=["chat"])
    ends = runtime.clock.wall() + 90
    runtime.validator.outcome = replace(valid_of(token), permissions=frozenset({"chat", "admin"}), expires_at=ends)
    assert "admin" in allowed(await runtime.verdict(token)).principal.permissions
    runtime.goes_down()
    await asyncio.sleep(70.0)
    verdict = allowed(await runtime.verdict(token))
    assert (verdict.principal.permissions, verdict.grant_until) == (frozenset({"chat"}), ends)
    await asyncio.sleep(21.0)
    assert isinstance(await runtime.verdict(token), Unavailable), "the service said that it ends then"


@virtual
async def test_a_scope_that_is_missing_in_an_outage_is_no_reason_to_give_up() -> None:
    runtime = await started(degraded=DegradePolicy(mode=Mode.LOCAL_JWT, privileged_scopes=frozenset({"admin"})))
    runtime.goes_down()
    for permissions in ([], ["admin"]):
        token = runtime.token(permissions=permissions)
        verdict = await runtime.verdict(token, route=Route(required_scopes=frozenset({"admin"})))
        assert told(verdict) == (Code.SERVICE_UNAVAILABLE, Source.POLICY, Cause.UPSTREAM)
    runtime.comes_back()
    verdict = await runtime.verdict(runtime.token(permissions=[]), route=Route(required_scopes=frozenset({"admin"})))
    assert told(verdict) == (Code.FORBIDDEN, Source.POLICY, None)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_token_once_refused_stays_out_of_the_next_outage(restarted: bool) -> None:
    @virtual
    async def main() -> None:
        runtime = await started()
        token = runtime.token()
        runtime.rejected.add(token)
        await runtime.verdict(token)
        if restarted:
            runtime = await started(store=runtime.store, mint=runtime.mint, files=runtime.files)
        runtime.goes_down()
        await asyncio.sleep(10.0)
        assert told(await runtime.verdict(token)) == (Code.TOKEN_REJECTED, Source.FALLBACK, None)
        assert told(await runtime.verdict(twin(token))) == (Code.TOKEN_REJECTED, Source.FALLBACK, None)
        runtime.comes_back()
        runtime.rejected.clear()
        allowed(await runtime.verdict(token))
        runtime.goes_down()
        await asyncio.sleep(70.0)
        allowed(await runtime.verdict(token))

    main()


def twin(token: str) -> str:
    """The same token under the other signature that holds: (r, n - s). Whoever has one can make the other."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    other = raw[:32] + (order - int.from_bytes(raw[32:])).to_bytes(32)
    return f"{signed}.{base64.urlsafe_b64encode(other).rstrip(b'=').decode()}"


@virtual
async def test_the_twin_of_a_token_is_proven_too() -> None:
    """Else the test above would show nothing."""
    runtime = await started()
    runtime.goes_down()
    allowed(await runtime.verdict(twin(runtime.token())))


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda r: setattr(r.memory, "last_contact", None), Cause.STALE),
        (lambda r: setattr(r.memory, "last_contact", r.clock.wall() - 1_800), Cause.STALE),
        (lambda r: setattr(r.memory, "last_contact", r.clock.wall() + 60), Cause.STALE),
        (lambda r: setattr(r.memory, "last_feed", r.clock.wall() - 600), Cause.UPSTREAM),
        (lambda r: r.memory.bars.overflowed(r.clock.wall() + 60, Lane.PROVEN), Cause.UPSTREAM),
        (lambda r: setattr(r.keys.keyset, "fetched_at", r.clock.wall() - 90_000), Cause.UPSTREAM),
    ],
    ids=["no record", "too long", "in the future", "feed stale", "bars overflowed", "keys too old"],
)
def test_every_condition_of_degraded_admission_must_hold(spoil: Any, cause: Cause) -> None:
    @virtual
    async def main() -> None:
        runtime = await started()
        runtime.goes_down()
        allowed(await runtime.verdict(runtime.token()))
        spoil(runtime)
        assert told(await runtime.verdict(runtime.token())) == (Code.SERVICE_UNAVAILABLE, Source.FALLBACK, cause)

    main()


@virtual
async def test_the_token_the_route_and_the_mode_must_allow_it_too() -> None:
    runtime = await started()
    runtime.goes_down()
    unavailable = (Code.SERVICE_UNAVAILABLE, Source.FALLBACK, Cause.UPSTREAM)
    assert told(await runtime.verdict(runtime.token(age_seconds=3_700))) == unavailable
    assert told(await runtime.verdict(runtime.token(iat=None))) == unavailable
    assert told(await runtime.verdict(runtime.token(), route=Route(allow_degraded=False))) == unavailable
    for mode in (Mode.CACHED_ONLY, Mode.DENY, None):
        strict = await started(degraded=DegradePolicy(mode=mode))
        strict.goes_down()
        assert told(await strict.verdict(strict.token())) == unavailable


@virtual
async def test_the_rate_of_degraded_admissions_is_bounded() -> None:
    runtime = await started(degraded_rate=TokenBucket(1.0, 3.0, 0.0))
    runtime.goes_down()
    verdicts = [await runtime.verdict(runtime.token(f"user-{number}")) for number in range(5)]
    assert [type(verdict) for verdict in verdicts] == [Allow] * 3 + [Unavailable] * 2
    assert told(verdicts[-1]) == (Code.OVERLOADED, Source.FALLBACK, None)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ServiceCredentialRefused("401"), Cause.CONFIG),
        (Throttled(429, 5.0), Cause.THROTTLED),
        (BadAnswer("x"), Cause.PROTOCOL),
    ],
    ids=["config", "throttled", "protocol"],
)
def test_whatever_kept_us_from_asking_is_told_and_lets_the_proven_in(error: Exception, cause: Cause) -> None:
    @virtual
    async def main() -> None:
        runtime = await started()
        runtime.validator.outcome = error
        assert told(await runtime.verdict(opaque_token())) == (Code.SERVICE_UNAVAILABLE, Source.FALLBACK, cause)
        assert allowed(await runtime.verdict(runtime.token())).degraded
        if cause is Cause.THROTTLED:
            verdict = await runtime.verdict(opaque_token())
            assert isinstance(verdict, Unavailable)
            assert verdict.retry_after_seconds == pytest.approx(5.0)

    main()


@virtual
async def test_our_refused_secret_is_told_even_where_the_outage_was_too_long() -> None:
    runtime = await started()
    runtime.validator.outcome = ServiceCredentialRefused("401")
    runtime.memory.last_contact = None
    assert told(await runtime.verdict(runtime.token()))[2] is Cause.CONFIG


@virtual
async def test_without_a_key_set_a_jwt_cannot_be_proven() -> None:
    runtime = Runtime(degraded=LOCAL_JWT)
    await runtime.memory.open()
    await runtime.memory.contact()
    runtime.goes_down()
    assert told(await runtime.verdict(runtime.token())) == (Code.SERVICE_UNAVAILABLE, Source.FALLBACK, Cause.KEYSET)
    assert told(await runtime.verdict(opaque_token()))[2] is Cause.UPSTREAM


@virtual
async def test_a_token_from_before_the_first_key_set_is_found_by_its_revocation() -> None:
    runtime = Runtime(degraded=LOCAL_JWT)
    await runtime.memory.open()
    token = runtime.token(jti="early")
    assert allowed(await runtime.verdict(token)).principal.jti == "early"
    runtime.memory.revocations.revoke_jti("early", float("inf"))
    assert told(await runtime.verdict(token))[0] is Code.TOKEN_REVOKED


@virtual
async def test_while_the_breaker_is_open_nobodys_handshake_is_the_probe() -> None:
    runtime = await started()
    runtime.goes_down()
    for number in range(5):
        await runtime.verdict(runtime.token(f"user-{number}"))
    assert runtime.gate.breaker.state is State.OPEN
    asked = len(runtime.validator.asked)
    await asyncio.sleep(60.0)
    runtime.comes_back()
    assert allowed(await runtime.verdict(runtime.token())).degraded
    assert told(await runtime.verdict(opaque_token()))[2] is Cause.BREAKER_OPEN
    assert len(runtime.validator.asked) == asked


@virtual
async def test_where_no_canary_flies_who_holds_a_fallback_may_probe() -> None:
    runtime = await started(probes=True)
    runtime.goes_down()
    for number in range(5):
        await runtime.verdict(runtime.token(f"user-{number}"))
    runtime.comes_back()
    await asyncio.sleep(6.0)
    assert told(await runtime.verdict(opaque_token()))[2] is Cause.BREAKER_OPEN
    assert allowed(await runtime.verdict(runtime.token("bob"))).assurance is Assurance.LIVE
    assert allowed(await runtime.verdict(runtime.token("carol"))).assurance is Assurance.LIVE
    assert runtime.gate.breaker.state is State.CLOSED


@virtual
async def test_where_no_canary_flies_and_nobody_holds_a_fallback_somebody_may_probe_in_the_end() -> None:
    runtime = await started(probes=True)
    runtime.goes_down()
    for _ in range(5):
        await runtime.verdict(opaque_token())
    runtime.comes_back()
    await asyncio.sleep(6.0)
    assert told(await runtime.verdict(opaque_token()))[2] is Cause.BREAKER_OPEN
    await asyncio.sleep(10.0)
    asked = len(runtime.validator.asked)
    await runtime.verdict(opaque_token())
    assert len(runtime.validator.asked) == asked + 1


# Re-validation, and what may go wrong


@virtual
async def test_an_admitted_token_is_asked_about_past_the_cache() -> None:
    runtime = await started()
    token = runtime.token()
    judgement = await runtime.decide(token)
    assert judgement.subject is not None
    recheck = runtime.verifier.recheck
    assert isinstance(await recheck(judgement.subject, Route(), runtime.deadline()), Allow)
    assert len(runtime.validator.asked) == 2
    runtime.rejected.add(token)
    assert told(await recheck(judgement.subject, Route(), runtime.deadline()))[0] == Code.TOKEN_REJECTED
    runtime.goes_down()
    assert told(await recheck(judgement.subject, Route(), runtime.deadline()))[2] is Cause.UPSTREAM
    runtime.validator.seconds, runtime.validator.outcome = 60.0, runtime.answer
    assert told(await recheck(judgement.subject, Route(), runtime.deadline()))[2] is Cause.DEADLINE
    await asyncio.sleep(0.1)
    while isinstance(permit := runtime.gate.acquire(), Permit):
        runtime.gate.failed(permit, 0.1, DOWN_UNANSWERED)
    assert told(await recheck(judgement.subject, Route(), runtime.deadline()))[2] is Cause.BREAKER_OPEN
    jti = claims_of(token)["jti"]
    await runtime.memory.apply(page("1", RevocationItem(jti=jti)), snapshot=True, complete_at=runtime.clock.wall())
    assert told(await recheck(judgement.subject, Route(), runtime.deadline()))[0] == Code.TOKEN_REVOKED


@virtual
async def test_a_question_that_is_cut_short_could_not_ask() -> None:
    runtime = await started()
    runtime.validator.seconds = 1.0
    deciding = asyncio.create_task(runtime.verdict(opaque_token()))
    await asyncio.sleep(0.1)
    await runtime.verifier.aclose(seconds=1.0)
    assert told(await deciding) == (Code.SERVICE_UNAVAILABLE, Source.FALLBACK, Cause.UPSTREAM)
    await runtime.reaper.aclose(seconds=1.0)
    assert runtime.is_quiet()


@virtual
async def test_a_store_that_fails_changes_no_verdict() -> None:
    runtime = await started()
    runtime.store.error = StoreError("disk full")
    token = runtime.token()
    runtime.rejected.add(token)
    assert told(await runtime.verdict(token)) == (Code.TOKEN_REJECTED, Source.REMOTE, None)
    allowed(await runtime.verdict(runtime.token()))
    runtime.goes_down()
    await asyncio.sleep(10.0)
    assert told(await runtime.verdict(token)) == (Code.TOKEN_REJECTED, Source.FALLBACK, None)


@virtual
async def test_two_audiences_do_not_share_a_verdict() -> None:
    """The keys of cache, flights and bars hold issuer and audience; only the node's store is shared."""
    one = await started()
    token = one.token(aud=["doorward", "another"])
    one.rejected.add(token)
    await one.verdict(token)
    claims = ClaimsPolicy(ISSUER, frozenset({"another"}))
    other = await started(store=one.store, mint=one.mint, audiences=("another",), claims=claims)
    other.goes_down()
    allowed(await other.verdict(token))


@virtual
async def test_a_bar_outlives_another_audience_in_the_settings() -> None:
    """It holds for the audience that was asked for, whatever else is accepted by now."""
    one = await started()
    token = one.token()
    one.rejected.add(token)
    await one.verdict(token)
    audiences = ("another", "doorward")
    claims = ClaimsPolicy(ISSUER, frozenset(audiences))
    other = await started(store=one.store, mint=one.mint, audiences=audiences, claims=claims)
    other.goes_down()
    assert told(await other.verdict(token)) == (Code.TOKEN_REJECTED, Source.FALLBACK, None)


@virtual
async def test_a_verdict_that_is_pushed_out_while_we_wait_is_no_longer_a_fallback() -> None:
    runtime = await started(cache=CachePolicy(positive_entries=1))
    stale = opaque_token()
    allowed(await runtime.verdict(stale))
    await asyncio.sleep(61.0)
    runtime.validator.seconds = 0.3
    other = asyncio.create_task(runtime.decide(opaque_token()))
    await asyncio.sleep(0.01)
    runtime.validator.seconds = 1.0
    judgement = await runtime.decide(stale)
    await other
    assert allowed(judgement.verdict).assurance is Assurance.LIVE
    assert judgement.question is None
