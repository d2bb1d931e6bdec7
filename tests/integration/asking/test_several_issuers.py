"""The how-to "more than one issuer": the settings file of the page, against the three services that it names."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.docs.pages import snippets
from tests.door_server import RunningDoor
from tests.integration.asking.test_other_tokens import Handler, Keys, door, service, well

from doorward import Settings
from doorward.testing import Endpoint, FakeAuthService, eventually, opaque_token

PAGE = "several-issuers.md"


async def who(running: RunningDoor, token: str) -> str:
    async with running.connect(token) as client:
        await client.send("who am I?")
        user_id: str = json.loads(await client.recv())["user_id"]
        return user_id


async def test_the_settings_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keys()
    routes: dict[str, Handler] = {"/.well-known/jwks.json": keys.published, "/.well-known/openid-configuration": well}
    async with service(routes) as acme, FakeAuthService() as ours, FakeAuthService() as beta:
        (text,) = [one.text for one in snippets("toml") if one.page.name == PAGE]
        for host, url in {
            "auth.example.com": ours.url,
            "login.acme.example": acme,
            "auth.beta.example": beta.url,
        }.items():
            text = text.replace(f"https://{host}", url)
        file = tmp_path / "doorward.toml"
        file.write_text(text, encoding="utf-8")
        ours.service_id = beta.service_id = "chat"
        beta.service_secret = "of-beta"
        monkeypatch.setenv("DOORWARD_ISSUERS__BETA_EU__SERVICE_SECRET", beta.service_secret)
        settings = Settings.load(
            file, data_dir=tmp_path / "data", deadline_seconds=1.0, auth={"service_secret": ours.service_secret}
        )
        async with door(settings) as running:
            await eventually(lambda: running.door.ready, within_seconds=10, what="all keys are there")
            claims = {"iss": f"{acme}/", "aud": ["https://chat.example.com/api"], "sub": "7"}
            assert await who(running, ours.issue("7")) == "7"
            assert await who(running, keys.token(**claims)) == "acme:7"
            assert await who(running, beta.issue("7")) == "beta:7"
            assert await who(running, ours.issue_opaque("7")) == "7"
            assert (await running.ask(keys.token(**{**claims, "iss": acme}))).code == "TOKEN_INVALID"
            assert (await running.ask(ours.issue("acme:7"))).code == "TOKEN_INVALID"
            asked = beta.calls[Endpoint.VALIDATE]
            assert (await running.ask(opaque_token())).code == "TOKEN_REJECTED"
            assert beta.calls[Endpoint.VALIDATE] == asked

            await beta.aclose()
            answers = await asyncio.gather(*(running.ask(beta.issue(f"user-{number}")) for number in range(6)))
            assert {answer.status for answer in answers} == {503}, "mode = deny"
            assert await who(running, ours.issue("8")) == "8"
            assert await who(running, keys.token(**{**claims, "sub": "8"})) == "acme:8"
