"""A reader who is cut off after every single event has in the end what a reader has who never was.

Cut are: the socket, the socket while the auth service is frozen, and the server itself (SIGKILL).
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any

from ag_ui.core import BaseEvent
from tests.agui import compacted, judged, needs_agui
from tests.chat_checker import Frame, Tab, findings
from tests.chat_process import ChatProcess, whole
from tests.chat_server import ChatClient, ChatServer
from tests.chat_support import FakeInsight, ScriptedAgent
from tests.integration.test_chat_behind_door import chatting
from websockets.exceptions import ConnectionClosed

from doorward.chat.agents.port import RunRequest
from doorward.chat.app import create_app
from doorward.config import Settings
from doorward.core.verdict import Source
from doorward.testing import Fault

pytestmark = needs_agui

Connect = Callable[[], AbstractAsyncContextManager[ChatClient]]
QUESTION = "a long answer has more words than this but no other kinds of events"
FEW_WORDS = "a shorter one"
CHAINS = 2
"""Servers that are killed side by side."""


class Gate:
    """An agent that gives one event for each `open`."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(0)
        self.agent = ScriptedAgent(self._script)

    def open(self) -> None:
        self._turns.release()

    async def _script(self, request: RunRequest) -> AsyncIterator[BaseEvent]:
        async for event in whole(request):
            await self._turns.acquire()
            yield event


def ends(frame: Frame) -> bool:
    return frame["event"]["type"] in {"RUN_FINISHED", "RUN_ERROR"}


def events_of(frames: Sequence[Any]) -> list[dict[str, Any]]:
    return [frame["event"] for frame in frames if not frame.get("synthetic")]


async def subscribed(client: ChatClient, tab: Tab) -> dict[str, Any]:
    """Go on where the tab is."""
    place = dict(zip(("epoch", "after_seq"), tab.position or (), strict=False))
    reply = await client.ask("thread.subscribe", thread_id=tab.thread_id, **place)
    assert reply["resumed"] is bool(place)
    if not place:
        tab.frames.append(await client.envelope())
    return reply


async def cut_after_every_event(connect: Connect, gate: Gate, tab: Tab) -> None:
    """One run, read one event a connection; each connection is broken off without a word."""
    async with connect() as client:
        await subscribed(client, tab)
        await client.ask("run.start", thread_id=tab.thread_id, run_id="r", message=QUESTION)
    while not ends(tab.frames[-1]):
        async with connect() as client:
            await subscribed(client, tab)
            gate.open()
            tab.frames.append(await client.envelope())
            client.connection.transport.abort()


async def read_in_one_go(connect: Connect, thread_id: str) -> Tab:
    """The whole thread, from its first number on, as one run."""
    tab = Tab("uncut", thread_id)
    async with connect() as client:
        reply = await client.ask("thread.subscribe", thread_id=thread_id)
        await client.envelope()
        await client.ask("thread.subscribe", thread_id=thread_id, epoch=reply["epoch"], after_seq=0)
        tab.frames.extend(await client.run())
    return tab


async def hold(tabs: Sequence[Tab], uncut: Sequence[Tab]) -> None:
    """Nothing lost, doubled or changed, and in AG-UI's own eyes the same run."""
    assert findings(tabs, {tab.thread_id: tab.frames for tab in uncut}) == []
    runs = [events_of(tab.frames) for tab in (*tabs, *uncut)]
    assert await judged(*runs) == [None] * len(runs)
    fewer = await compacted(*runs)
    assert fewer[: len(tabs)] == fewer[len(tabs) :]


async def test_the_socket_is_cut_after_every_event() -> None:
    gate = Gate()
    app = create_app(
        Settings(auth={"url": "http://127.0.0.1:1"}), insight=FakeInsight(), ready=lambda: True, agent=gate.agent
    )
    async with ChatServer.serving(app) as server:
        tab = Tab("cut", "t")
        await cut_after_every_event(server.client, gate, tab)
        await hold([tab], [await read_in_one_go(server.client, "t")])
    assert len(tab.frames) > 30


async def test_the_socket_is_cut_after_every_event_while_the_auth_service_is_frozen(tmp_path: Path) -> None:
    gate = Gate()
    async with chatting(tmp_path, gate.agent) as (running, _):
        running.proxy.fault = Fault.SILENCE

        def connect() -> AbstractAsyncContextManager[ChatClient]:
            return client_of(running.browser(running.auth.issue("alice")))

        tab = Tab("cut", "t")
        await cut_after_every_event(connect, gate, tab)
        await hold([tab], [await read_in_one_go(connect, "t")])
        sources = {record.source for record in running.door.insight.decisions(1000)}
    assert sources <= {Source.PATIENCE, Source.FALLBACK}, "every connection came in on local proof"


class client_of:  # noqa: N801 - a context manager, used like a function
    """A `ChatClient` on a connection to come."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def __aenter__(self) -> ChatClient:
        return ChatClient(await self._connection.__aenter__())

    async def __aexit__(self, *error: object) -> None:
        await self._connection.__aexit__(*error)


async def test_the_server_is_killed_after_every_event(tmp_path: Path) -> None:
    numbers = range(1, await length_of_a_run(tmp_path / "uncut" / "chat.sqlite3"))

    pairs = await asyncio.gather(
        *(chain(tmp_path / str(first) / "chat.sqlite3", numbers[first::CHAINS]) for first in range(CHAINS))
    )

    tabs, uncut = zip(*(pair for found in pairs for pair in found), strict=True)
    await hold(tabs, uncut)
    assert len(tabs) > 20
    assert {tab.frames[-1]["event"].get("code") for tab in tabs} == {"interrupted"}


async def length_of_a_run(file: Path) -> int:
    process = await ChatProcess.start(file, pace_seconds=0)
    try:
        async with process.client() as client:
            await subscribed(client, Tab("first", "t"))
            await client.ask("run.start", thread_id="t", run_id="r", message=FEW_WORDS)
            return len(await client.run())
    finally:
        await process.kill()


async def chain(file: Path, cuts: Sequence[int]) -> list[tuple[Tab, Tab]]:
    """One server after another on the same file, each killed in mid-run; what a reader has, and what the log says."""
    pairs: list[tuple[Tab, Tab]] = []
    process = await ChatProcess.start(file, pace_seconds=0.02)
    try:
        for cut in cuts:
            tab = Tab(f"killed after {cut}", f"t{cut}")
            async with process.client() as client:
                await subscribed(client, tab)
                await client.ask("run.start", thread_id=tab.thread_id, run_id=f"r{cut}", message=FEW_WORDS)
                await read_until_killed(client, process, tab, cut)
            await process.kill()
            process = await ChatProcess.start(file, pace_seconds=0.02)
            async with process.client() as client:
                await subscribed(client, tab)
                if not ends(tab.frames[-1]):
                    tab.frames.extend(await client.run())
            pairs.append((tab, await read_in_one_go(process.client, tab.thread_id)))
    finally:
        await process.kill()
    return pairs


async def read_until_killed(client: ChatClient, process: ChatProcess, tab: Tab, cut: int) -> None:
    received = 0
    with suppress(ConnectionClosed):
        while True:
            tab.frames.append(await client.envelope())
            received += 1
            if received == cut:
                process.process.send_signal(signal.SIGKILL)
