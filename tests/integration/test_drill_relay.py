"""The relay before an auth service that speaks TLS: what passes is the same, but for what belongs to each side."""

from __future__ import annotations

import ssl
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from doorward.drill.relay import plain_address
from doorward.testing import throwaway_tls


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's context whose certificate the system trusts, as far as OpenSSL is told."""
    tls = throwaway_tls()
    (tmp_path / "ca.pem").write_bytes(tls.ca_pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return tls.server


async def served(context: ssl.SSLContext | None) -> tuple[web.AppRunner, str]:
    async def answer(request: web.Request) -> web.Response:
        heard = {
            "method": request.method,
            "path": request.raw_path,
            "host": request.headers["Host"],
            "asked": request.headers.getall("X-Asked", []),
            "body": await request.text(),
        }
        return web.json_response(
            heard, status=int(request.headers.get("X-Status", "200")), headers={"Retry-After": "7"}
        )

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    return runner, f"localhost:{runner.addresses[0][1]}"


async def test_a_request_passes_as_it_came_under_the_service_s_own_name(trusted: ssl.SSLContext) -> None:
    runner, authority = await served(trusted)
    try:
        async with plain_address(f"https://{authority}") as (host, port), aiohttp.ClientSession() as client:
            headers = [("X-Asked", "1"), ("X-Asked", "2"), ("X-Status", "429")]
            url = f"http://{host}:{port}/auth/a%2Fb?x=1%202"
            async with client.post(url, data="token", headers=headers, allow_redirects=False) as answer:
                heard = await answer.json()
    finally:
        await runner.cleanup()

    assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
    assert heard["host"] == authority
    assert (heard["method"], heard["asked"], heard["body"]) == ("POST", ["1", "2"], "token")
    assert heard["path"].startswith("/auth/a%2Fb?x=1")


async def test_a_certificate_that_nobody_trusts_is_a_bad_gateway() -> None:
    runner, authority = await served(throwaway_tls().server)
    try:
        async with (
            plain_address(f"https://{authority}") as (host, port),
            aiohttp.ClientSession() as client,
            client.get(f"http://{host}:{port}/auth/health") as answer,
        ):
            text = await answer.text()
    finally:
        await runner.cleanup()

    assert answer.status == 502
    assert "could not be asked" in text
    assert "Certificate" in text


async def test_a_plain_service_needs_no_relay() -> None:
    async with plain_address("http://127.0.0.1:9001") as address:
        assert address == ("127.0.0.1", 9001)
