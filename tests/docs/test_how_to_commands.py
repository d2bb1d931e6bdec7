"""The commands and settings of how-tos whose programs other tests run: that these are what starts them."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pages import ROOT, block
from tests.docs.test_agent_examples import asked, said
from tests.docs.test_examples import lets_in_whom_it_should
from tests.docs.typed import replaced, typed_server
from tests.servers import settings_for

from doorward.drill.peers import free_port
from doorward.testing import FakeAuthService


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
