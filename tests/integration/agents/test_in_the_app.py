"""How the application takes an agent: by setting or from code, entered when it starts and left when it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Self

import aiohttp
from ag_ui.core import BaseEvent
from starlette.applications import Starlette
from tests.chat_server import ChatServer
from tests.chat_support import FakeInsight, echo

from doorward import Settings
from doorward.chat.agents import Agent, RunRequest
from doorward.chat.app import create_app


def app(made: Agent | None = None, **chat: Any) -> Starlette:
    settings = Settings(auth={"url": "http://127.0.0.1:1"}, chat=chat)
    return create_app(settings, insight=FakeInsight(), ready=lambda: True, agent=made)


async def answered(server: ChatServer, question: str) -> list[dict[str, Any]]:
    async with server.client() as client:
        await client.ask("thread.subscribe", thread_id="t")
        await client.ask("run.start", thread_id="t", run_id="r", message=question)
        while (await client.envelope()).get("synthetic") is not True:
            pass
        return [envelope["event"] for envelope in await client.run()]


class Host:
    """Echoes, while somebody is in."""

    def __init__(self) -> None:
        self.story: list[str] = []

    async def __aenter__(self) -> Self:
        self.story.append("entered")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.story.append("left")

    def run(self, request: RunRequest) -> AsyncIterator[BaseEvent]:
        self.story.append(request.message)
        return echo(request)


async def test_an_agent_is_entered_and_left_with_the_application() -> None:
    host = Host()
    async with ChatServer.serving(app(host)) as server:
        assert host.story == ["entered"]
        events = await answered(server, "hello there")
    assert [event["delta"] for event in events if "delta" in event] == ["hello ", "there "]
    assert host.story == ["entered", "hello there", "left"]


async def test_an_agent_by_setting_with_its_time() -> None:
    by_setting = app(agent="pydantic-ai", agent_model="test", agent_seconds=300)
    assert by_setting.state.chat.limits.run_seconds == 300
    async with ChatServer.serving(by_setting) as server:
        events = await answered(server, "hello")
        async with aiohttp.ClientSession() as client, client.get(f"{server.url}/api/config") as answer:
            assert (await answer.json())["warden"] is False
    assert "".join(event.get("delta", "") for event in events) == "success (no tool calls)"
