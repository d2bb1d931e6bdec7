"""A throwaway certificate convinces the client that was told to trust it, and no other."""

from __future__ import annotations

import aiohttp
import pytest

from doorward.testing import Endpoint, FakeAuthService, Fault, FaultProxy, ThrowawayTls, throwaway_tls


@pytest.fixture(scope="module")
def tls() -> ThrowawayTls:
    return throwaway_tls()


async def test_the_fake_auth_service_speaks_tls(tls: ThrowawayTls) -> None:
    async with FakeAuthService(ssl_context=tls.server) as auth, aiohttp.ClientSession() as http:
        assert auth.url.startswith("https://")
        async with http.get(auth.url + Endpoint.HEALTH, ssl=tls.client()) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await http.get(auth.url + Endpoint.HEALTH)


async def test_a_proxy_passes_tls_and_can_stall_it(tls: ThrowawayTls) -> None:
    async with FakeAuthService(ssl_context=tls.server) as auth, FaultProxy(auth.host, auth.port) as proxy:
        url = f"https://{proxy.host}:{proxy.port}{Endpoint.HEALTH}"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.3)) as hurried:
            proxy.fault = Fault.TLS_STALL
            with pytest.raises(TimeoutError):
                await hurried.get(url, ssl=tls.client())
        assert auth.calls[Endpoint.HEALTH] == 0
        proxy.fault = Fault.NONE
        async with aiohttp.ClientSession() as http, http.get(url, ssl=tls.client()) as answer:
            assert answer.status == 200


@pytest.fixture(scope="module")
def tls_of_auth_test() -> ThrowawayTls:
    return throwaway_tls(["auth.test"])


async def test_a_certificate_names_what_it_was_made_for(tls_of_auth_test: ThrowawayTls) -> None:
    tls = tls_of_auth_test
    async with FakeAuthService(ssl_context=tls.server) as auth, aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await http.get(auth.url + Endpoint.HEALTH, ssl=tls.client())
        async with http.get(auth.url + Endpoint.HEALTH, ssl=tls.client(), server_hostname="auth.test") as answer:
            assert answer.status == 200
