"""The commands and settings of how-tos whose programs other tests run: that these are what starts them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from aiohttp import web
from tests.docs.pages import ROOT, block
from tests.docs.test_agent_examples import asked, said
from tests.docs.test_examples import connect, lets_in_whom_it_should, refused
from tests.docs.typed import replaced, typed_server
from tests.integration.asking.test_other_tokens import Keys, service
from tests.servers import settings_for

from doorward.drill.peers import free_port
from doorward.testing import FakeAuthService, eventually


async def test_the_command_for_a_framework(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    async with FakeAuthService(service_secret="change-me") as auth:
        script, port = replaced(block("frameworks", "sh"), {"https://auth.example.com": auth.url}), free_port()
        async with typed_server(script, port, cwd=tmp_path, UVICORN_PORT=str(port)):
            await lets_in_whom_it_should(f"ws://127.0.0.1:{port}/ws", auth)


async def test_the_command_and_the_settings_for_an_agent_in_another_program(tmp_path: Path) -> None:
    page = "bring-your-own-agent"
    (tmp_path / "agui_server.py").symlink_to(ROOT / "examples" / "agui_server.py")
    async with FakeAuthService() as auth:
        port, file = free_port(), tmp_path / "agent.toml"
        file.write_text(replaced(block(page, "toml", "agent_url"), {"127.0.0.1:9000": f"127.0.0.1:{port}"}))
        async with typed_server(replaced(block(page, "sh", "agui_server"), {"9000": str(port)}), port, cwd=tmp_path):
            settings = settings_for(auth, tmp_path / "data") | {"config": str(file)}
            assert said(await asked(settings, auth.issue("ada"), "hello")) == "success (no tool calls)"


async def test_the_settings_beside_a_validator_of_ones_own(tmp_path: Path) -> None:
    keys, asked_for = Keys(), Counter[str]()

    async def answer(request: web.Request) -> web.Response:
        asked_for[request.path] += 1
        if request.path == "/oauth2/keys":
            return await keys.published(request)
        return (
            web.json_response({"sub": "ada"}) if request.path in {"/healthz", "/userinfo"} else web.Response(status=404)
        )

    async with service({"/{path:.*}": answer}) as url:
        file, port = tmp_path / "own.toml", free_port()
        file.write_text(replaced(block("own-validator", "toml"), {"https://login.example.com": url}))
        script = f"uvicorn own_validator:app --app-dir {ROOT / 'examples'} --port {port}"
        settings = {"data_dir": str(tmp_path / "data"), "config": str(file)}
        async with typed_server(script, port, cwd=tmp_path, settings=settings):
            await eventually(lambda: asked_for["/oauth2/keys"] and asked_for["/healthz"], within_seconds=30)
            claims = {"iss": f"{url}/", "aud": "doorward", "sub": "ada"}
            async with connect(f"ws://127.0.0.1:{port}/ws", keys.token(**claims)) as client:
                assert await client.recv() == "ada"
            stranger = keys.token(**{**claims, "iss": url})
            assert (await refused(f"ws://127.0.0.1:{port}/ws", stranger))["code"] == "TOKEN_INVALID"
    assert asked_for.keys() == {"/oauth2/keys", "/healthz", "/userinfo"}
