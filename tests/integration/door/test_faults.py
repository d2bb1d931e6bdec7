"""200 handshakes at once against each fault of the auth service: every one gets the right answer before its deadline."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.door_server import Answer, RunningDoor, running_door

from doorward.testing import (
    DnsFault,
    Endpoint,
    FakeAuthService,
    Fault,
    FaultDns,
    FaultProxy,
    ThrowawayTls,
    eventually,
    opaque_token,
    throwaway_tls,
)

KINDS = {"jwt": 80, "expired": 30, "forged": 30, "opaque": 40, "none": 20}
OPAQUE_CODES = {"SERVICE_UNAVAILABLE", "OVERLOADED"}

FAULTS = {
    "refuses": Fault.REFUSE,
    "black-holes": Fault.BLACK_HOLE,
    "stays silent": Fault.SILENCE,
    "sends headers and stalls": Fault.HEADER_STALL,
    "drips a byte per 100 ms": Fault.DRIP,
    "answers 500": Fault.status(500),
}


def tokens(auth: FakeAuthService) -> list[tuple[str, str | None]]:
    make: dict[str, Callable[[int], str | None]] = {
        "jwt": lambda number: auth.issue(f"user-{number}"),
        "expired": lambda number: auth.mint.expired(f"user-{number}"),
        "forged": lambda number: auth.mint.forged(f"user-{number}"),
        "opaque": lambda _: opaque_token(),
        "none": lambda _: None,
    }
    return [(kind, make[kind](number)) for kind, count in KINDS.items() for number in range(count)]


async def storm(running: RunningDoor, fault: str) -> dict[str, list[Answer]]:
    """200 handshakes at once; asserts the bound on the door's own clock and prints it."""
    telemetry = running.door.telemetry
    cases = tokens(running.auth)
    running.records.clear()
    telemetry.largest_lag_seconds = 0.0
    answers = await asyncio.gather(*(running.ask(token) for _, token in cases))
    overrun = max(record.overrun_ms for record in running.records) / 1000
    slowest = max(record.total_ms for record in running.records)
    lag = telemetry.largest_lag_seconds
    print(f"\n{fault}: slowest {slowest:.0f} ms, overrun {overrun * 1000:.1f} ms, loop lag {lag * 1000:.1f} ms")
    assert len(running.records) == sum(KINDS.values())
    assert overrun <= running.allowed_overrun_seconds
    found: dict[str, list[Answer]] = {kind: [] for kind in KINDS}
    for (kind, _), answer in zip(cases, answers, strict=True):
        found[kind].append(answer)
    return found


def check_verdicts(found: dict[str, list[Answer]], running: RunningDoor) -> None:
    """Exactly as the table says."""
    assert {answer.status for answer in found["jwt"]} == {101}
    assert {answer.code for answer in found["expired"]} == {"TOKEN_EXPIRED"}
    assert {answer.code for answer in found["forged"]} == {"TOKEN_INVALID"}
    assert {answer.code for answer in found["none"]} == {"AUTH_REQUIRED"}
    assert {answer.code for answer in found["opaque"]} <= OPAQUE_CODES
    assert {answer.status for answer in found["opaque"]} == {503}
    assert all(answer.retry_after_ms is not None and answer.retry_after_ms >= 1000 for answer in found["opaque"])
    definitive = [record for record in running.records if record.verdict == "deny"]
    assert not any(name in {"gate", "remote"} for record in definitive for name in record.steps)


async def check_open_breaker(running: RunningDoor) -> None:
    """While it is open nobody waits, and nobody's handshake is the probe."""
    await asyncio.gather(*(running.ask(running.auth.issue(f"more-{number}")) for number in range(6)))
    await eventually(lambda: running.issuer.gate.breaker.state == "open", what="the breaker opened")
    running.records.clear()
    for number in range(30):
        answer = await running.ask(running.auth.issue(f"late-{number}"))
        assert answer.status == 101
    assert {(record.source, record.assurance, record.degraded) for record in running.records} == {
        ("fallback", "local", True)
    }
    median = statistics.median(record.total_ms for record in running.records)
    print(f"  breaker open: median decision for a valid JWT {median:.2f} ms")


async def check_healing(running: RunningDoor) -> None:
    """Nobody opens a handshake meanwhile: the canary finds out."""
    seconds = await running.healed(within_seconds=5.0)
    running.records.clear()
    assert (await running.ask(running.auth.issue("healed"))).status == 101
    assert [(record.source, record.assurance) for record in running.records] == [("remote", "live")]
    print(f"  live again {seconds:.2f} s after the repair, without a user's handshake")


@pytest.mark.parametrize("name", FAULTS)
async def test_every_handshake_is_answered_in_time(name: str, tmp_path: Path) -> None:
    async with running_door(tmp_path, degrade={"mode": "local_jwt"}) as running:
        await running.settled()
        running.proxy.fault = FAULTS[name]
        asked_before = dict(running.auth.asked_about)
        found = await storm(running, name)
        check_verdicts(found, running)
        assert running.auth.asked_about == asked_before or name in {
            "sends headers and stalls",
            "drips a byte per 100 ms",
        }
        await check_open_breaker(running)
        running.proxy.fault = Fault.NONE
        await check_healing(running)


async def test_our_own_secret_is_refused(tmp_path: Path) -> None:
    async with running_door(tmp_path, degrade={"mode": "local_jwt"}) as running:
        await running.settled()
        running.auth.refuse_service_credential = True
        found = await storm(running, "answers 401 to our secret")
        check_verdicts(found, running)
        seen = await running.ask(opaque_token())
        assert (seen.code, seen.cause) == ("SERVICE_UNAVAILABLE", "config")
        assert seen.retry_after_ms is not None
        assert seen.retry_after_ms >= 30_000
        assert {answer.cause for answer in found["opaque"]} <= {"config", None}
        assert running.issuer.gate.breaker.state == "closed"
        running.auth.refuse_service_credential = False
        await check_healing(running)


async def test_a_forged_token_is_never_asked_about(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        await running.settled()
        forged = running.auth.mint.forged("mallory")
        assert (await running.ask(forged)).code == "TOKEN_INVALID"
        assert running.auth.asked_about[forged] == 0


async def test_dns_black_hole(tmp_path: Path) -> None:
    """Cold: nothing is known of the name, and no name server answers."""
    async with (
        FakeAuthService() as auth,
        FaultProxy(auth.host, auth.port, seed=1) as proxy,
        FaultDns({"auth.test": ["127.0.0.1"]}) as dns,
    ):
        named = {"url": f"http://auth.test:{proxy.port}", "dns_servers": (dns.address,)}
        options: dict[str, Any] = {"degrade": {"mode": "local_jwt"}, "environment": "staging", "auth_settings": named}
        async with running_door(tmp_path, auth=auth, proxy=proxy, **options) as running:
            await running.settled()
        dns.fault = DnsFault.BLACK_HOLE
        async with running_door(tmp_path, auth=auth, proxy=proxy, **options) as running:
            found = await storm(running, "DNS black hole")
            check_verdicts(found, running)
            await check_open_breaker(running)
            dns.fault = DnsFault.NONE
            await check_healing(running)


@pytest.fixture(name="tls")
def throwaway() -> ThrowawayTls:
    return throwaway_tls()


async def test_tls_stall(tls: ThrowawayTls, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(tls.ca_pem)
    async with FakeAuthService(ssl_context=tls.server) as auth, FaultProxy(auth.host, auth.port, seed=1) as proxy:
        secure = {"url": f"https://127.0.0.1:{proxy.port}", "ca_file": ca_file}
        options: dict[str, Any] = {"degrade": {"mode": "local_jwt"}, "auth_settings": secure}
        async with running_door(tmp_path, auth=auth, proxy=proxy, **options) as running:
            await running.settled()
            proxy.fault = Fault.RESET
            proxy.fault = Fault.TLS_STALL
            found = await storm(running, "TLS stall")
            check_verdicts(found, running)
            await check_open_breaker(running)
            proxy.fault = Fault.NONE
            await check_healing(running)


async def test_the_feed_goes_on_and_the_calls_are_counted(tmp_path: Path) -> None:
    """One token, many handshakes at once: one question."""
    async with running_door(tmp_path) as running:
        await running.settled()
        token = running.auth.issue("ada")
        answers = await asyncio.gather(*(running.ask(token) for _ in range(50)))
        assert {answer.status for answer in answers} == {101}
        assert running.auth.asked_about[token] == 1
        assert running.auth.calls[Endpoint.VALIDATE] >= 1
