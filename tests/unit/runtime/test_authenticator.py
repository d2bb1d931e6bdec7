"""What is asked of every handshake before its token is looked at, over fake ports in virtual time."""

from __future__ import annotations

import asyncio

from tests.runtime_kit import Runtime, allowed, told, virtual

from doorward.core.credential import Presented, Transport
from doorward.core.routes import Route
from doorward.core.verdict import Code, Deny, Source
from doorward.testing import opaque_token


async def started(**options: object) -> Runtime:
    runtime = Runtime(**options)  # type: ignore[arg-type]  # a test names what it means
    await runtime.start()
    return runtime


@virtual
async def test_a_strange_origin_is_refused_before_anything_else() -> None:
    runtime = await started()
    verdict = await runtime.verdict(runtime.token(), origin="https://evil.test\n")
    assert told(verdict) == (Code.ORIGIN_DENIED, Source.ORIGIN, None)
    assert isinstance(verdict, Deny)
    assert "https://evil.test\\n" in verdict.detail
    assert "allowed_origins" in verdict.detail
    assert runtime.validator.asked == []


@virtual
async def test_the_own_origin_behind_a_proxy_that_is_not_trusted_names_that_mend() -> None:
    runtime = await started()
    verdict = await runtime.verdict(runtime.token(), origin="https://app.test", scheme="ws", host="app.test")
    assert isinstance(verdict, Deny)
    assert "trusted_proxies" in verdict.detail
    assert "allowed_origins" not in verdict.detail


@virtual
async def test_an_address_that_asks_too_often_is_limited() -> None:
    runtime = await started(max_addresses_rate=1.0)
    await runtime.verdict(runtime.token())
    assert told(await runtime.verdict(runtime.token())) == (Code.RATE_LIMITED, Source.ADMIT, None)
    allowed(await runtime.verdict(runtime.token(), address="192.0.2.8"))


@virtual
async def test_pending_handshakes_are_bounded() -> None:
    runtime = await started(max_pending=2)
    runtime.validator.seconds = 1.0
    first = [asyncio.create_task(runtime.decide(opaque_token())) for _ in range(2)]
    await asyncio.sleep(0.1)
    assert runtime.authenticator.pending == 2
    assert told(await runtime.verdict(opaque_token())) == (Code.OVERLOADED, Source.ADMIT, None)
    await asyncio.gather(*first)
    assert runtime.authenticator.pending == 0


@virtual
async def test_no_credential_and_a_malformed_one() -> None:
    runtime = await started()
    assert told(await runtime.verdict(None)) == (Code.AUTH_REQUIRED, Source.CREDENTIAL, None)
    assert told(await runtime.verdict("\x00\xff")) == (Code.BAD_CREDENTIAL_FORMAT, Source.CREDENTIAL, None)


@virtual
async def test_a_cookie_without_an_origin_does_not_count() -> None:
    runtime = await started()
    presented = Presented([(b"cookie", f"__Host-doorward={runtime.token()}".encode())])
    route = Route(transports=frozenset({Transport.COOKIE}))
    assert told(await runtime.verdict(None, presented=presented, route=route))[0] == Code.ORIGIN_DENIED
    origin = "https://chat.example.test"
    allowed(await runtime.verdict(None, presented=presented, route=route, origin=origin, scheme="https"))
