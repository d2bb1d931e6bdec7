"""The auth service that every door asks in the same play, in the two ways of asking, and with or without TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from doorward.adapters.service_credential import ServiceCredential
from doorward.drill.proxies import FORWARD_PATH
from doorward.drill.results import Upstream
from doorward.testing import FakeAuthService, FaultDns, ThrowawayTls, throwaway_tls

SERVICE_SECRET = "drill-service-secret"  # noqa: S105 - of an auth service that lives as long as the drill
NAME = "auth.drill.test"


@asynccontextmanager
async def forward_auth(auth: FakeAuthService, tls: ThrowawayTls | None = None) -> AsyncIterator[int]:
    """The way in which proxies ask: the bearer in a header, and the status is the answer. Yields the port it listens on."""
    trust = True if tls is None else tls.client()
    credential = ServiceCredential(auth.service_id, auth.service_secret).headers()

    async def answer(request: web.Request) -> web.Response:
        question = {"token": request.headers.get("Authorization", "").partition(" ")[2], "audience": auth.audience}
        async with session.post("/auth/validate", json=question, headers=credential, ssl=trust) as answered:
            content = await answered.json()
        return web.json_response(content, status=200 if content.get("valid") is True else 401)

    app = web.Application()
    app.router.add_route("*", FORWARD_PATH + "{rest:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    async with aiohttp.ClientSession(auth.url, timeout=aiohttp.ClientTimeout(total=5)) as session:
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.server if tls else None).start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()


@dataclass(frozen=True, slots=True)
class StandIns:
    """The two services that can be asked, both well; the faults come in between. `ca_file`: they speak TLS, and it is trusted."""

    auth: FakeAuthService
    forward_port: int
    ca_file: Path | None = None

    def upstream(self, url: str, dns: FaultDns | None = None) -> Upstream:
        """What a door must know that reaches them at this URL.

        Args:
            dns: it shall go by a name instead, and ask this server for it.
        """
        auth = self.auth
        parts = urlsplit(url)
        scheme = parts.scheme if self.ca_file is None else "https"
        host = parts.hostname if dns is None else NAME
        ca_file = None if self.ca_file is None else str(self.ca_file)
        dns_server = None if dns is None else dns.address
        return Upstream(
            f"{scheme}://{host}:{parts.port}",
            auth.issuer,
            auth.audience,
            auth.service_id,
            auth.service_secret,
            ca_file,
            dns_server,
        )


@asynccontextmanager
async def stand_ins() -> AsyncIterator[StandIns]:
    async with FakeAuthService(service_secret=SERVICE_SECRET) as auth, forward_auth(auth) as port:
        yield StandIns(auth, port)


@asynccontextmanager
async def secure_stand_ins() -> AsyncIterator[StandIns]:
    """The same behind TLS, with a certificate of their own."""
    tls = await asyncio.to_thread(throwaway_tls)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="doorward-drill-")))
        ca_file = folder / "ca.pem"
        await asyncio.to_thread(ca_file.write_bytes, tls.ca_pem)
        service = FakeAuthService(service_secret=SERVICE_SECRET, ssl_context=tls.server)
        auth = await stack.enter_async_context(service)
        port = await stack.enter_async_context(forward_auth(auth, tls))
        yield StandIns(auth, port, ca_file)
