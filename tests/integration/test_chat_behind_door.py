"""The chat backend behind the real door: what the warden says is what the door did."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from starlette.applications import Starlette
from tests.chat_server import ChatClient
from tests.chat_support import ScriptedAgent, forever, verify
from tests.door_server import RunningDoor, running_door
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from doorward.asgi.door import Door
from doorward.chat.agents.port import Agent
from doorward.chat.agents.warden import Warden
from doorward.chat.app import create_app
from doorward.chat.service import Chat
from doorward.cli.serve import GUARDED_HTTP
from doorward.config import Settings
from doorward.runtime.insight import ConnectionView, DecisionRecord, ServiceView, Statistics
from doorward.testing import Fault, eventually


class LateInsight:
    """The insight of a door that is made after the app."""

    door: Door

    def services(self) -> Sequence[ServiceView]:
        return self.door.insight.services()

    def statistics(self, window_seconds: float = 300.0, *, kind: str | None = None) -> Statistics:
        return self.door.insight.statistics(window_seconds, kind=kind)

    def decisions(self, limit: int = 50) -> Sequence[DecisionRecord]:
        return self.door.insight.decisions(limit)

    def decision(self, decision_id: str) -> DecisionRecord | None:
        return self.door.insight.decision(decision_id)

    def connections(self, user_id: str | None = None) -> Sequence[ConnectionView]:
        return self.door.insight.connections(user_id)


@asynccontextmanager
async def chatting(
    tmp_path: Path, agent: Agent | None = None, **door: Any
) -> AsyncIterator[tuple[RunningDoor, Starlette]]:
    insight = LateInsight()
    settings = Settings(auth={"url": "http://127.0.0.1:1"})
    app = create_app(settings, insight=insight, ready=lambda: True, agent=agent or Warden(insight, pace_seconds=0))
    async with running_door(tmp_path, app=app, **door) as running:
        insight.door = running.door
        await running.settled()
        yield running, app


async def asked(client: ChatClient, question: str, run_id: str = "r") -> tuple[dict[str, Any], str]:
    """The tool's result and the answer to one question, in a thread of its own."""
    thread_id = f"thread-{run_id}"
    await client.ask("thread.subscribe", thread_id=thread_id)
    assert (await client.ask("run.start", thread_id=thread_id, run_id=run_id, message=question))["ok"] is True
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] not in {"RUN_FINISHED", "RUN_ERROR"}:
        message = await client.envelope()
        if "seq" in message:
            events.append(message["event"])
    verify(events)
    result = next(json.loads(event["content"]) for event in events if event["type"] == "TOOL_CALL_RESULT")
    return result, "".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT")


async def until_closed(connection: ClientConnection) -> None:
    async with asyncio.timeout(5):
        while True:
            await connection.recv()


async def test_the_warden_tells_what_the_door_did(tmp_path: Path) -> None:
    async with chatting(tmp_path) as (running, _), running.browser(running.auth.issue("alice")) as connection:
        client = ChatClient(connection)
        assert connection.subprotocol == "doorward.v1"
        decision, answer = await asked(client, "Why was I let in?", "r1")
        assert (decision["found"], decision["user_id"], decision["verdict"]) == (True, "alice", "allow")
        assert decision["id"] in answer
        assert "Step by step:" in answer
        state, answer = await asked(client, "How is the auth service?", "r2")
        assert state["services"][0]["breaker"] == "closed"
        assert "is fine as far as I can see" in answer
        statistics, _ = await asked(client, "What did you decide in the last minutes?", "r3")
        assert statistics["by_verdict"]["allow"] == 1
        connections, _ = await asked(client, "Who is connected?", "r4")
        assert (connections["scope"], connections["count"]) == ("own", 1)
        assert connections["connections"][0]["this_one"] is True


async def test_who_is_connected_is_for_admins(tmp_path: Path) -> None:
    async with chatting(tmp_path) as (running, _):
        root = running.auth.issue("root", permissions=["admin"])
        async with running.browser(running.auth.issue("alice")), running.browser(root) as connection:
            connections, answer = await asked(ChatClient(connection), "Who is connected?")
            assert {view["user_id"] for view in connections["connections"]} == {"alice", "root"}
            assert "2 connections are open, by 2 people." in answer


async def test_the_warden_tells_of_an_outage(tmp_path: Path) -> None:
    async with chatting(tmp_path) as (running, _):
        running.proxy.fault = Fault.REFUSE
        for number in range(5):
            await running.ask(running.auth.issue(f"user-{number}"))
        async with running.browser(running.auth.issue("alice")) as connection:
            client = ChatClient(connection)
            state, answer = await asked(client, "How is the auth service?", "r1")
            assert state["services"][0]["breaker"] == "open"
            assert "is not answering" in answer
            decision, answer = await asked(client, "Why was I let in?", "r2")
            assert (decision["verdict"], decision["degraded"], decision["assurance"]) == ("allow", True, "local")
            assert "(assurance local, degraded)" in answer
            statistics, _ = await asked(client, "What did you decide in the last minutes?", "r3")
            assert statistics["by_verdict"]["allow"] == 6


async def test_a_revocation_takes_the_runs_of_the_socket_along(tmp_path: Path) -> None:
    async with chatting(tmp_path, ScriptedAgent(forever)) as (running, app):
        chat: Chat = app.state.chat
        async with running.browser(running.auth.issue("alice")) as connection:
            client = ChatClient(connection)
            await client.ask("run.start", thread_id="t", run_id="r", message="go on for ever")
            await eventually(lambda: len(chat.runs) == 1)
            running.auth.revoke(user_id="alice")
            with pytest.raises(ConnectionClosed) as closed:
                await until_closed(connection)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 3000
        await eventually(lambda: len(chat.runs) == 0, what="the run was cancelled")


async def test_threads_over_http_are_behind_the_same_door(tmp_path: Path) -> None:
    async with chatting(tmp_path, protect_http=GUARDED_HTTP) as (running, _), aiohttp.ClientSession() as client:
        url = running.url.replace("ws:", "http:").removesuffix("/ws")

        async def status(path: str, token: str | None) -> tuple[int, str]:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            try:
                async with client.get(f"{url}{path}", headers=headers) as answer:
                    return answer.status, answer.content_type
            except aiohttp.ServerDisconnectedError:
                return 200, "cut off in the middle, as who is revoked is"

        alice = running.auth.issue("alice")
        assert await status("/api/threads", alice) == (200, "application/json")
        assert await status("/api/threads", None) == (401, "application/problem+json")
        assert await status("/api/threads", "not.a.token") == (401, "application/problem+json")
        assert await status("/api/config", None) == (200, "application/json")
        assert await status("/api/openapi.json", None) == (200, "application/json")
        running.auth.revoke(user_id="alice")
        await eventually_refused(lambda: status("/api/threads", alice))


async def test_who_was_revoked_while_away_does_not_come_back(tmp_path: Path) -> None:
    async with chatting(tmp_path, ScriptedAgent(forever)) as (running, app):
        chat: Chat = app.state.chat
        token = running.auth.issue("alice")
        async with running.browser(token) as connection:
            client = ChatClient(connection)
            await client.ask("thread.subscribe", thread_id="t")
            await client.ask("run.start", thread_id="t", run_id="r", message="go on")
            await eventually(lambda: len(chat.runs) == 1)
        running.auth.revoke(user_id="alice")

        async def resume() -> tuple[int, str]:
            answer = await running.ask(token)
            return answer.status or 0, str(answer.code)

        await eventually_refused(resume)
        assert len(chat.runs) == 1, "the run was begun while it was allowed; nobody sees it"


async def eventually_refused(ask: Callable[[], Awaitable[tuple[int, str]]]) -> None:
    """The feed needs a moment."""
    for _ in range(200):
        status, _ = await ask()
        if status == 401:
            return
        assert status in {101, 200}, status
        await asyncio.sleep(0.01)
    raise AssertionError("it was never refused")
