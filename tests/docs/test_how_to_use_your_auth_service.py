"""The how-to "use your auth service": its commands against one that works, its settings against one with other paths and names."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from tests.docs.pages import block
from tests.docs.test_examples import connect, refused
from tests.docs.typed import replaced, typed, typed_server
from tests.integration.asking.test_other_tokens import door

from doorward import Settings
from doorward.drill.peers import free_port
from doorward.testing import FakeAuthService, FaultDns, ThrowawayTls, throwaway_tls
from doorward.testing.tokens import TokenMint

PAGE = "use-your-auth-service"
HOSTS = ("auth.example.com", "keys.example.com")
SECRET = "of the chat"


async def test_the_commands_find_the_service_and_serve(tmp_path: Path) -> None:
    async with FakeAuthService(service_id="chat", service_secret="change-me", audience="chat") as auth:
        port = free_port()
        ours = {"https://auth.example.com": auth.url, "/var/lib/doorward": str(tmp_path / "data"), "8000": str(port)}
        script = replaced(block(PAGE, "sh"), ours)
        async with typed_server(script, port, cwd=tmp_path, DOORWARD_SERVE__PORT=str(port)) as server:
            assert "The settings can work." in server.said
            assert f"All is well: the auth service at {auth.url} answers" in server.said
            assert re.search(rf"^doorward serve ready http://127.0.0.1:{port} ", server.said, re.MULTILINE)
            assert (tmp_path / "data").is_dir()
            url = f"ws://127.0.0.1:{port}/ws"
            async with connect(url, auth.issue("ada"), subprotocols=["doorward.v1"]) as client, asyncio.timeout(30):
                assert json.loads(await client.recv())["user_id"] == "ada"
            for other in (auth.issue(header={"typ": "JWT"}), auth.issue(aud="shop"), auth.issue(iss=f"{auth.issuer}/")):
                assert (await refused(url, other))["code"] == "TOKEN_INVALID"


@pytest.fixture
def tls() -> ThrowawayTls:
    return throwaway_tls(HOSTS)


class OtherService:
    """Answers at the paths, and takes the headers, that the settings of the page name."""

    def __init__(self) -> None:
        self.mint = TokenMint("", audience="doorward")
        self.asked = 0

    async def check(self, request: web.Request) -> web.Response:
        given = (request.headers.get("X-Service-ID"), request.headers.get("X-Service-Secret"))
        if given != ("doorward", SECRET):
            return web.json_response({"error": "who are you?"}, status=401)
        self.asked += 1
        return web.json_response({"valid": "." in (await request.json())["token"], "user_id": "ada"})

    async def keys(self, _: web.Request) -> web.Response:
        return web.json_response(self.mint.key_set())

    async def well(self, _: web.Request) -> web.Response:
        return web.json_response({})

    @asynccontextmanager
    async def serving(self, context: ssl.SSLContext) -> AsyncIterator[int]:
        app = web.Application()
        app.router.add_post("/internal/check-token", self.check)
        app.router.add_get("/jwks.json", self.keys)
        app.router.add_get("/auth/health", self.well)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
            port = runner.addresses[0][1]
            self.mint.issuer = f"https://auth.example.com:{port}"
            yield port
        finally:
            await runner.cleanup()


async def test_the_settings_find_a_service_with_paths_and_names_of_its_own(tmp_path: Path, tls: ThrowawayTls) -> None:
    """The names are those of the page; who resolves them is a name server of ours."""
    (tmp_path / "ca.pem").write_bytes(tls.ca_pem)
    zone = {host: ["127.0.0.1"] for host in HOSTS}
    other = OtherService()
    async with FaultDns(zone) as dns, FaultDns(zone) as second_dns, other.serving(tls.server) as port:
        ours = {host: f"{host}:{port}" for host in HOSTS} | {
            "/etc/ssl/private-ca.pem": str(tmp_path / "ca.pem"),
            "10.0.0.2": dns.address,
            "10.0.0.3:5353": second_dns.address,
        }
        file = tmp_path / "doorward.toml"
        file.write_text(replaced(block(PAGE, "toml"), ours))
        said = await typed("doorward doctor", cwd=tmp_path, settings={"auth.service_secret": SECRET})
        assert f"The auth service at https://auth.example.com:{port} works" in said
        assert other.asked > 0

        settings = Settings.load(file, data_dir=tmp_path / "data", auth={"service_secret": SECRET})
        async with door(settings) as running, running.connect(other.mint.sign(other.mint.claims("ada"))) as client:
            await client.send("who am I?")
            said_by_app = json.loads(await client.recv())
        assert (said_by_app["user_id"], said_by_app["degraded"]) == ("ada", False)
