"""Test tokens in the pipeline, over fake ports in virtual time: when they count, how often, and what they never do."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from joserfc.jwk import ECKey
from structlog.testing import capture_logs
from tests.runtime_kit import Runtime, handshake_of, virtual

from doorward.adapters.e2e_key import sign
from doorward.core.breaker import BreakerPolicy, State
from doorward.core.deadline import Deadline
from doorward.core.degrade import DegradePolicy, Mode
from doorward.core.e2e import TYP, E2ePolicy, claims, public_part
from doorward.core.limits import TokenBucket
from doorward.core.routes import Route
from doorward.core.verdict import Allow, Assurance, Cause, Code, Deny, Source, Unavailable, Verdict
from doorward.errors import StoreError
from doorward.runtime.telemetry import Trace

POLICY = E2ePolicy("here", "e2e", frozenset({"chat"}))
SECRET = ECKey.generate_key("P-256")
KEY = public_part(SECRET)
NO_JWT = base64.urlsafe_b64encode(json.dumps({"typ": TYP}).encode()).rstrip(b"=").decode() + ".e30.c2ln"
"""Without `alg` a token is opaque, and opaque ones are asked about."""


async def started(**options: Any) -> Runtime:
    """Heard from the auth service, and knows the key of test tokens."""
    runtime = Runtime(**{"e2e": (POLICY, KEY), "breaker": BreakerPolicy(failures=2), **options})
    await runtime.start()
    await runtime.memory.contact()
    return runtime


async def in_outage(**options: Any) -> Runtime:
    """The same, and then the breaker opened."""
    runtime = await started(**options)
    await goes_down(runtime)
    return runtime


async def goes_down(runtime: Runtime) -> None:
    runtime.goes_down()
    for _ in range(2):
        await runtime.verdict(runtime.token())
    assert runtime.gate.breaker.state is State.OPEN
    runtime.validator.asked.clear()


def made(runtime: Runtime, name: str = "ada", *, jti: str = "j1", seconds: float = 600.0) -> str:
    return sign(SECRET, claims(POLICY, name=name, jti=jti, wall_now=runtime.clock.wall(), seconds=seconds))


def told(verdict: Verdict) -> tuple[str, Source, Cause | None]:
    assert not isinstance(verdict, Allow), verdict
    return verdict.code, verdict.source, verdict.cause if isinstance(verdict, Unavailable) else None


async def refused(runtime: Runtime, token: str, **handshake: Any) -> tuple[str, Source, Cause | None]:
    """Refused, nobody was asked, nobody was counted as let in."""
    verdict = await runtime.verdict(token, **handshake)
    assert runtime.validator.asked == []
    assert runtime.metrics.counts["e2e_admit",] == 0
    return told(verdict)


@virtual
async def test_in_an_outage_it_lets_a_test_user_in() -> None:
    runtime = await in_outage()
    began = runtime.clock.monotonic()
    with capture_logs() as lines:
        verdict = await runtime.verdict(made(runtime))
    assert isinstance(verdict, Allow)
    assert (verdict.principal.user_id, verdict.assurance, verdict.source) == ("e2e:ada", Assurance.TEST, Source.E2E)
    assert (verdict.degraded, verdict.provisional, verdict.reason) == (True, False, "degraded_test")
    assert verdict.grant_until == verdict.principal.expires_at
    assert runtime.clock.monotonic() == began
    assert runtime.validator.asked == []
    assert runtime.metrics.counts["e2e_admit",] == 1
    [line] = [line for line in lines if line["event"] == "e2e admit"]
    assert (line["log_level"], line["user"], line["jti"]) == ("warning", "e2e:ada", "j1")
    assert made(runtime) not in str(lines)
    await runtime.aclose()


@virtual
async def test_it_is_named_by_its_fingerprint_and_its_step_is_on_the_timeline() -> None:
    runtime = await in_outage()
    trace = Trace(runtime.clock)
    token = made(runtime)
    with capture_logs() as lines:
        judgement = await runtime.authenticator.decide(handshake_of(token), runtime.deadline(), trace)
    assert judgement.subject is not None
    assert [line["token"] for line in lines] == [judgement.subject.key.shown]
    assert token not in repr(judgement)
    assert list(trace.steps) == ["admit", "extract", "e2e"]
    await runtime.aclose()


@virtual
async def test_it_does_nothing_while_the_auth_service_answers() -> None:
    runtime = await started()
    assert await refused(runtime, made(runtime)) == (Code.TOKEN_REJECTED, Source.E2E, None)
    assert runtime.store.redeemed == {}
    await goes_down(runtime)
    assert isinstance(await runtime.verdict(made(runtime)), Allow), "it was not used up"
    await runtime.aclose()


@virtual
async def test_a_failure_is_not_an_outage_yet() -> None:
    runtime = await started(breaker=BreakerPolicy(failures=5))
    runtime.goes_down()
    await runtime.verdict(runtime.token())
    runtime.validator.asked.clear()
    assert runtime.gate.in_outage
    assert await refused(runtime, made(runtime)) == (Code.TOKEN_REJECTED, Source.E2E, None)
    await runtime.aclose()


@virtual
async def test_once_and_never_again() -> None:
    runtime = await in_outage()
    token = made(runtime)
    verdicts = await asyncio.gather(*(runtime.verdict(token) for _ in range(25)))
    assert [type(verdict) for verdict in verdicts].count(Allow) == 1
    assert {told(verdict) for verdict in verdicts if not isinstance(verdict, Allow)} == {
        (Code.TOKEN_REJECTED, Source.E2E, None)
    }
    assert runtime.metrics.counts["e2e_admit",] == 1
    reborn = await in_outage(store=runtime.store, clock=runtime.clock)
    assert await refused(reborn, token) == (Code.TOKEN_REJECTED, Source.E2E, None)
    assert isinstance(await reborn.verdict(made(reborn, jti="j2")), Allow)
    await runtime.aclose()
    await reborn.aclose()


@virtual
async def test_it_is_remembered_longer_than_it_lives() -> None:
    runtime = await in_outage()
    await runtime.verdict(made(runtime, seconds=60))
    assert runtime.store.redeemed == {("e2e", "j1"): int(runtime.clock.wall()) + 60 + 86_400.0}
    await runtime.aclose()


@virtual
async def test_a_store_that_fails_lets_nobody_in() -> None:
    runtime = await in_outage()
    runtime.store.error = StoreError("disk full")
    token = made(runtime)
    for _ in range(2):
        assert await refused(runtime, token) == (Code.SERVICE_UNAVAILABLE, Source.E2E, Cause.STORE)
    runtime.store.error = None
    assert isinstance(await runtime.verdict(token), Allow), "could not ask was not a no"
    await runtime.aclose()


@virtual
async def test_a_store_that_hangs_holds_up_nobody() -> None:
    runtime = await in_outage()
    runtime.store.seconds = 3_600.0
    began = runtime.clock.monotonic()
    verdict = await runtime.authenticator.decide(
        handshake_of(made(runtime)), Deadline.after(began, 0.5), Trace(runtime.clock)
    )
    assert told(verdict.verdict) == (Code.SERVICE_UNAVAILABLE, Source.E2E, Cause.STORE)
    assert runtime.clock.monotonic() - began < 0.5
    await runtime.aclose()


@virtual
async def test_the_outage_may_end_while_the_store_is_asked() -> None:
    runtime = await in_outage()
    runtime.store.seconds = 0.5
    deciding = asyncio.ensure_future(runtime.verdict(made(runtime)))
    await asyncio.sleep(0.1)
    runtime.comes_back()
    runtime.store.seconds = 0.0
    for _ in range(2):
        assert await runtime.canary.fly()
    assert runtime.gate.breaker.state is State.CLOSED
    assert told(await deciding) == (Code.TOKEN_REJECTED, Source.E2E, None)
    assert runtime.metrics.counts["e2e_admit",] == 0
    await runtime.aclose()


@pytest.mark.parametrize(
    ("options", "handshake", "expected"),
    [
        ({"degraded": DegradePolicy(mode=Mode.DENY)}, {}, (Code.SERVICE_UNAVAILABLE, Source.E2E, Cause.BREAKER_OPEN)),
        ({}, {"route": Route(allow_degraded=False)}, (Code.SERVICE_UNAVAILABLE, Source.E2E, Cause.BREAKER_OPEN)),
        ({}, {"route": Route(required_scopes=frozenset({"admin"}))}, (Code.FORBIDDEN, Source.E2E, None)),
        ({}, {"origin": "https://elsewhere.example"}, (Code.ORIGIN_DENIED, Source.ORIGIN, None)),
    ],
    ids=["mode deny", "route", "scope", "origin"],
)
def test_what_is_not_allowed_uses_nothing_up(
    options: dict[str, Any], handshake: dict[str, Any], expected: tuple[str, Source, Cause | None]
) -> None:
    @virtual
    async def check() -> None:
        runtime = await in_outage(**options)
        assert await refused(runtime, made(runtime), **handshake) == expected
        assert runtime.store.redeemed == {}
        await runtime.aclose()

    check()


@virtual
async def test_a_long_outage_fails_closed() -> None:
    runtime = await in_outage()
    await asyncio.sleep(1_801)
    token = made(runtime)
    assert await refused(runtime, token) == (Code.SERVICE_UNAVAILABLE, Source.E2E, Cause.STALE)
    await runtime.aclose()


@virtual
async def test_they_are_not_let_in_faster_than_anybody_degraded() -> None:
    runtime = await in_outage(degraded_rate=TokenBucket(0.001, 1, 0.0))
    assert isinstance(await runtime.verdict(made(runtime)), Allow)
    assert told(await runtime.verdict(made(runtime, jti="j2"))) == (Code.OVERLOADED, Source.E2E, None)
    assert runtime.metrics.counts["e2e_admit",] == 1
    await runtime.aclose()


@virtual
async def test_a_replay_takes_no_place_of_others() -> None:
    runtime = await in_outage(degraded_rate=TokenBucket(0.001, 2, 0.0))
    for _ in range(5):
        await runtime.verdict(made(runtime))
    assert isinstance(await runtime.verdict(made(runtime, jti="j2")), Allow)
    await runtime.aclose()


@virtual
async def test_a_badly_made_one_is_never_asked_about() -> None:
    runtime = await in_outage()
    stranger = sign(
        ECKey.generate_key("P-256"), claims(POLICY, name="ada", jti="j1", wall_now=runtime.clock.wall(), seconds=60)
    )
    for token in (stranger, NO_JWT):
        assert await refused(runtime, token) == (Code.TOKEN_INVALID, Source.E2E, None)
    await runtime.aclose()


@virtual
async def test_switched_off_it_is_invalid_and_never_asked_about() -> None:
    for prepare in (started, in_outage):
        runtime = await prepare(e2e=None)
        for token in (made(runtime), NO_JWT):
            assert await refused(runtime, token) == (Code.TOKEN_INVALID, Source.E2E, None)
        await runtime.aclose()


@virtual
async def test_it_refreshes_no_connection() -> None:
    runtime = await in_outage()
    judgement = await runtime.verifier.judge(
        made(runtime), Route(), runtime.deadline(), Trace(runtime.clock), patient=False
    )
    assert told(judgement.verdict) == (Code.TOKEN_INVALID, Source.E2E, None)
    assert runtime.store.redeemed == {}
    await runtime.aclose()


@virtual
async def test_after_the_outage_it_ends_unasked() -> None:
    runtime = await in_outage()
    judgement = await runtime.decide(made(runtime))
    assert judgement.subject is not None
    runtime.comes_back()
    verdict = await runtime.verifier.recheck(judgement.subject, Route(), runtime.deadline())
    assert isinstance(verdict, Deny)
    assert runtime.validator.asked == []
    await runtime.aclose()


@virtual
async def test_cancelled_while_the_store_is_asked_leaves_nothing_behind() -> None:
    runtime = await in_outage()
    runtime.store.seconds = 0.2
    deciding = asyncio.ensure_future(runtime.verdict(made(runtime)))
    await asyncio.sleep(0.1)
    deciding.cancel()
    await asyncio.wait({deciding})
    await asyncio.sleep(0)
    assert runtime.is_quiet()
    runtime.store.seconds = 0.0
    assert told(await runtime.verdict(made(runtime))) == (Code.TOKEN_REJECTED, Source.E2E, None)
    await runtime.aclose()
