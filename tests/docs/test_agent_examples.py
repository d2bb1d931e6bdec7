"""The agents among the examples answer in `doorward serve`, chosen by setting as the pages tell people to."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import websockets
from tests.chat_server import ChatClient
from tests.chat_support import verify
from tests.docs.pages import ROOT
from tests.docs.test_examples import OPTIONS, START_SECONDS, STOP_SECONDS, program
from tests.servers import settings_for

from doorward.config import child_environment
from doorward.testing import FakeAuthService


@asynccontextmanager
async def serving(settings: dict[str, str]) -> AsyncIterator[str]:
    """`doorward serve` in the folder of the examples, on a free port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "doorward", "serve", "--port", "0",
        cwd=ROOT / "examples",
        env=child_environment(settings),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            line = (await process.stdout.readline()).decode()
        ready = re.search(r"ready http://(\S+) pid", line)
        assert ready, line
        yield f"ws://{ready[1]}/ws"
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


async def asked(settings: dict[str, str], token: str, question: str) -> list[dict[str, Any]]:
    """The events of one run."""
    async with serving(settings) as url:
        headers = {"Authorization": f"Bearer {token}"}
        async with websockets.connect(url, additional_headers=headers, proxy=None, open_timeout=10) as connection:
            client = ChatClient(connection)
            thread_id = str(uuid4())
            await client.ask("thread.subscribe", thread_id=thread_id)
            reply = await client.ask("run.start", thread_id=thread_id, run_id="r", message=question)
            assert reply["ok"] is True, reply
            events = [await client.envelope()]
            while events[-1]["event"]["type"] not in {"RUN_FINISHED", "RUN_ERROR"}:
                events.append(await client.envelope())
    run = [event["event"] for event in events if not event.get("synthetic")]
    verify(run)
    return run


def said(events: list[dict[str, Any]]) -> str:
    return "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")


async def test_an_agent_of_pydantic_ai_whose_tool_knows_who_asks(tmp_path: Path) -> None:
    async with FakeAuthService() as auth:
        settings = settings_for(auth, tmp_path / "data") | {"chat.agent": "own_agent:agent", "chat.agent_model": "test"}
        events = await asked(settings, auth.issue("ada", email="admin@doorward.local"), "where is my lamp?")
    assert events[-1]["type"] == "RUN_FINISHED"
    assert "a lamp, sent on Monday" in next(event for event in events if event["type"] == "TOOL_CALL_RESULT")["content"]


async def test_an_agent_without_a_framework(tmp_path: Path) -> None:
    async with FakeAuthService() as auth:
        settings = settings_for(auth, tmp_path / "data") | {"chat.agent": "plain_agent:agent"}
        events = await asked(settings, auth.issue("ada"), "hello there")
    assert said(events) == "ada says: hello there "


async def test_an_agent_in_a_program_of_its_own(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(os.environ, "AGENT_TOKEN", "s3cret")
    options = ("-m", "uvicorn", "agui_server:app", *OPTIONS)
    async with FakeAuthService() as auth, program(*options, settings={}) as (_, address):
        url = address.replace("ws://", "http://").replace("/ws", "/run")
        settings = settings_for(auth, tmp_path / "data") | {"chat.agent": "http", "chat.agent_url": url}
        events = await asked(settings | {"chat.agent_token": "s3cret"}, auth.issue("ada"), "hello")
        assert said(events) == "success (no tool calls)"
        refused = await asked(settings | {"chat.agent_token": "wrong"}, auth.issue("ada"), "hello")
        assert (refused[-1]["type"], refused[-1]["code"]) == ("RUN_ERROR", "agent_misconfigured")
