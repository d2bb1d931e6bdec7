"""The how-to "keep your tokens": each settings file of the page, against a service that answers as the real one does."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote_plus

import aiohttp
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import RSAKey
from structlog.testing import capture_logs
from tests.docs.pages import snippets
from tests.door_server import RunningDoor, serving

from doorward import Settings
from doorward.testing import FakeAuthService, FaultProxy, eventually

PAGE = "other-tokens.md"
SECRET = "of the confidential client"
Handler = Callable[[web.Request], Any]


def settings_of(heading_word: str, tmp_path: Path, **replacing: str) -> Settings:
    """The block of the page that has this word, with the example hosts replaced."""
    (text,) = [one.text for one in snippets("toml") if one.page.name == PAGE and heading_word in one.text]
    for host, url in replacing.items():
        text = text.replace(f"https://{host.replace('__', '-').replace('_', '.')}", url)
    file = tmp_path / "doorward.toml"
    file.write_text(text, encoding="utf-8")
    assert "example.com/realms" not in text
    return Settings.load(file, data_dir=tmp_path / "data", auth={"service_secret": SECRET})


@asynccontextmanager
async def service(routes: dict[str, Handler]) -> AsyncIterator[str]:
    app = web.Application()
    for path, handler in routes.items():
        app.router.add_route("*", path, handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def door(settings: Settings, *, needs_keys: bool = True) -> AsyncIterator[RunningDoor]:
    """The auth service and the proxy of the running door are idle: the settings name the service."""
    async with AsyncExitStack() as stack:
        idle = await stack.enter_async_context(FakeAuthService())
        proxy = await stack.enter_async_context(FaultProxy(idle.host, idle.port, seed=1))
        running = await stack.enter_async_context(serving(settings, idle, proxy))
        if needs_keys:
            await eventually(lambda: running.issuer.keys.keyset, what="the key set is there")
        yield running


class Keys:
    """An issuer's RSA key: its key set, and tokens signed with it."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "k1", "use": "sig", "alg": "RS256"})

    async def published(self, _: web.Request) -> web.Response:
        return web.json_response({"keys": [self.key.as_dict(private=False)]})

    def token(self, **claims: Any) -> str:
        now = int(time.time())
        return jwt.encode(
            {"alg": "RS256", "kid": "k1", "typ": "JWT"}, {"iat": now, "exp": now + 300, **claims}, self.key
        )


async def well(_: web.Request) -> web.Response:
    return web.json_response({})


async def who(running: RunningDoor, token: str) -> dict[str, Any]:
    async with running.connect(token) as client:
        await client.send("who am I?")
        said: dict[str, Any] = json.loads(await client.recv())
        return said


async def test_keycloak(tmp_path: Path) -> None:
    keys, good = Keys(), dict[str, dict[str, Any]]()

    async def introspect(request: web.Request) -> web.Response:
        pair = base64.b64decode(request.headers["Authorization"].partition(" ")[2]).decode()
        if unquote_plus(pair) != f"chat-backend:{SECRET}" or " " in pair:
            return web.json_response({"error": "unauthorized_client"}, status=401)
        (token,) = parse_qs(await request.text())["token"]
        return web.json_response({"active": True, **good[token]} if token in good else {"active": False})

    realm = "/realms/acme/protocol/openid-connect"
    routes: dict[str, Handler] = {
        f"{realm}/token/introspect": introspect,
        f"{realm}/certs": keys.published,
        "/realms/acme/.well-known/openid-configuration": well,
    }
    async with AsyncExitStack() as keycloak:
        url = await keycloak.enter_async_context(service(routes))
        settings = settings_of("realm_access", tmp_path, keycloak_example_com=url)
        claims = {
            "iss": f"{url}/realms/acme",
            "aud": ["chat", "account"],
            "sub": "f81d4fae",
            "typ": "Bearer",
            "azp": "web",
            "sid": "s-1",
            "jti": "j-1",
            "realm_access": {"roles": ["chat", "offline_access"]},
            "scope": "openid email",
            "email": "ada@example.com",
        }
        token = keys.token(**claims)
        good[token] = {**claims, "exp": int(time.time()) + 300}
        async with door(settings) as running:
            said = await who(running, token)
            assert (said["user_id"], said["assurance"]) == ("f81d4fae", "live")
            assert said["permissions"] == ["chat", "offline_access"]
            assert (await running.ask(keys.token(**{**claims, "typ": "ID"}))).code == "TOKEN_INVALID"
            assert (await running.ask(keys.token(**{**claims, "aud": "account"}))).code == "TOKEN_INVALID"
            assert (await running.ask(keys.token(**{**claims, "jti": "logged out"}))).code == "TOKEN_REJECTED"
            await keycloak.aclose()
            said = await who(running, keys.token(**{**claims, "jti": "never seen before"}))
            assert (said["user_id"], said["assurance"]) == ("f81d4fae", "local"), "Keycloak is down"


async def test_auth0(tmp_path: Path) -> None:
    keys = Keys()
    routes: dict[str, Handler] = {"/.well-known/jwks.json": keys.published, "/.well-known/openid-configuration": well}
    async with service(routes) as url:
        settings = settings_of("auth0", tmp_path, acme_eu_auth0_com=url)
        claims = {
            "iss": f"{url}/",
            "aud": ["https://chat.example.com/api", f"{url}/userinfo"],
            "sub": "auth0|5f7c8ec7",
            "azp": "client",
            "scope": "openid profile",
            "permissions": ["chat"],
            "https://chat.example.com/email": "ada@example.com",
        }
        async with door(settings) as running:
            said = await who(running, keys.token(**claims))
            assert (said["user_id"], said["permissions"], said["assurance"]) == ("auth0|5f7c8ec7", ["chat"], "local")
            plain = {name: value for name, value in claims.items() if name != "permissions"}
            assert (await who(running, keys.token(**plain)))["permissions"] == ["openid", "profile"]
            assert (await running.ask(keys.token(**{**claims, "aud": "client"}))).code == "TOKEN_INVALID"
            assert (await running.ask(keys.token(**{**claims, "iss": url}))).code == "TOKEN_INVALID"


async def test_cognito(tmp_path: Path) -> None:
    keys = Keys()
    pool = "/eu-central-1_EXAMPLE"
    routes: dict[str, Handler] = {f"{pool}/.well-known/{name}": well for name in ("openid-configuration",)}
    routes[f"{pool}/.well-known/jwks.json"] = keys.published
    async with service(routes) as url:
        settings = settings_of("cognito", tmp_path, cognito__idp_eu__central__1_amazonaws_com=url)
        claims = {
            "iss": f"{url}{pool}",
            "client_id": "1example23456789",
            "sub": "aaaa-bbbb",
            "token_use": "access",
            "scope": "aws.cognito.signin.user.admin",
            "cognito:groups": ["chat"],
            "username": "ada",
            "origin_jti": "s-1",
        }
        async with door(settings) as running:
            said = await who(running, keys.token(**claims))
            assert said["user_id"] == "aaaa-bbbb"
            assert said["permissions"] == ["aws.cognito.signin.user.admin", "chat"]
            assert (await running.ask(keys.token(**{**claims, "client_id": "other"}))).code == "TOKEN_INVALID"
            an_id_token = {**claims, "token_use": "id", "aud": "1example23456789"}
            assert (await running.ask(keys.token(**an_id_token))).code == "TOKEN_INVALID"


async def test_opaque_session_ids(tmp_path: Path) -> None:
    status = 200

    async def session(request: web.Request) -> web.Response:
        assert request.method == "GET"
        assert "Authorization" not in request.headers
        if status != 200:
            return web.Response(status=status)
        if request.headers.get("X-Session-ID") != "good":
            return web.Response(status=401)
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600))
        return web.json_response({"user": {"id": 7, "roles": ["chat"]}, "expires": until})

    async with service({"/session": session, "/healthz": well}) as url:
        settings = settings_of("X-Session-ID", tmp_path, sessions_example_com=url)
        async with door(settings, needs_keys=False) as running:
            said = await who(running, "good")
            assert (said["user_id"], said["permissions"], said["assurance"]) == ("7", ["chat"], "live")
            assert (await running.ask("bad")).code == "TOKEN_REJECTED"
            for status in (403, 404, 500):
                answer = await running.ask(f"another-{status}")
                assert (answer.status, answer.code) == (503, "SERVICE_UNAVAILABLE")


@asynccontextmanager
async def django_site(tmp_path: Path) -> AsyncIterator[str]:
    arguments = ["-m", "uvicorn", "django_site:application", "--port", "0", "--no-access-log", "--lifespan", "off"]
    environment = {**os.environ, "SITE_DATABASE": str(tmp_path / "site.sqlite3")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=Path(__file__).parent, env=environment, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(30):
            said = ""
            while (found := re.search(r"running on (http://\S+)", said)) is None:
                line = (await process.stderr.readline()).decode()
                assert line, said
                said += line
        yield found[1]
    finally:
        process.kill()
        await process.communicate()


async def test_a_django_session_cookie(tmp_path: Path) -> None:
    async with django_site(tmp_path) as url, aiohttp.ClientSession() as browser:
        settings = settings_of("sessionid", tmp_path, www_example_com=url)
        async with browser.get(f"{url}/in") as signed_in:
            cookie = signed_in.cookies["sessionid"].value
        with capture_logs() as lines:
            async with door(settings, needs_keys=False):
                assert "sibling domains can set a cookie of this name" in str(lines)
        async with door(settings, needs_keys=False) as running:
            headers = {"Cookie": f"sessionid={cookie}", "Origin": f"http://127.0.0.1:{running.port}"}
            async with running.connect(None, headers=headers) as client:
                await client.send("headers")
                said = json.loads(await client.recv())
            assert (said["user_id"], said["permissions"], said["assurance"]) == ("1", ["chat"], "live")
            assert cookie not in str(said)
            assert (
                await running.ask(None, headers={**headers, "Origin": "https://evil.example"})
            ).code == "ORIGIN_DENIED"
            assert (
                await running.ask(None, headers={**headers, "Cookie": "sessionid=made-up"})
            ).code == "TOKEN_REJECTED"
