"""A reader who is cut off after every single event has in the end what a reader has who never was.

Cut are: the socket, the socket while the auth service is frozen, and the server itself (SIGKILL). And what each connection
delivers after a prelude is by itself what AG-UI's verifier accepts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from ag_ui.core import BaseEvent
from tests.agui import compacted, judged, needs_agui, runs_of
from tests.chat_checker import Frame, Tab, findings
from tests.chat_scripted import whole
from tests.chat_server import ChatClient, ChatServer
from tests.chat_support import FakeInsight, ScriptedAgent
from tests.integration.test_chat_behind_door import chatting
from tests.serve_process import ServeProcess
from websockets.exceptions import ConnectionClosed

from doorward.chat.agents.port import RunRequest
from doorward.chat.app import create_app
from doorward.chat.service import Chat
from doorward.config import Settings
from doorward.core.verdict import Source
from doorward.testing import FakeAuthService, Fault

pytestmark = needs_agui

Connect = Callable[[], AbstractAsyncContextManager[ChatClient]]
QUESTION = " ".join(f"word{number}" for number in range(80))
SHORTER = " ".join(f"word{number}" for number in range(30))
"""Where the work grows with the square of its length."""
KILLS = 2
"""Of a server in full flow."""
RUNS_PER_USER = 8


def length_of(question: str) -> int:
    """How many events a run has that says it again: its beginning, a thought, two tools, the answer, its end."""
    return 1 + 7 + 2 * 5 + 1 + len(question.split()) + 1 + 1


EVENTS = length_of(QUESTION)


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


async def cut_after_every_event(connect: Connect, gate: Gate, tab: Tab) -> int:
    """One run, read one event a connection; each connection is broken off without a word. Returns how many there were."""
    async with connect() as client:
        await subscribed(client, tab)
        await client.ask("run.start", thread_id=tab.thread_id, run_id="r", message=QUESTION)
    connections = 1
    while not ends(tab.frames[-1]):
        async with connect() as client:
            connections += 1
            await subscribed(client, tab)
            gate.open()
            tab.frames.append(await client.envelope())
            client.connection.transport.abort()
    return connections


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


def application(gate: Gate) -> AbstractAsyncContextManager[ChatServer]:
    settings = Settings(auth={"url": "http://127.0.0.1:1"})
    app = create_app(settings, insight=FakeInsight(), ready=lambda: True, agent=gate.agent)
    return ChatServer.serving(app)


async def test_the_socket_is_cut_after_every_event() -> None:
    gate = Gate()
    async with application(gate) as server:
        tab = Tab("cut", "t")
        assert await cut_after_every_event(server.client, gate, tab) == EVENTS + 1
        await hold([tab], [await read_in_one_go(server.client, "t")])


async def test_the_socket_is_cut_after_every_event_while_the_auth_service_is_frozen(tmp_path: Path) -> None:
    gate = Gate()
    async with chatting(tmp_path, gate.agent) as (running, _):
        running.proxy.fault = Fault.SILENCE
        before = len(running.records)

        def connect() -> AbstractAsyncContextManager[ChatClient]:
            return client_of(running.browser(running.auth.issue("alice")))

        tab = Tab("cut", "t")
        connections = await cut_after_every_event(connect, gate, tab)
        await hold([tab], [await read_in_one_go(connect, "t")])
        records = running.records[before:]
    assert [record.verdict for record in records] == ["allow"] * (connections + 1)
    local = {Source.PATIENCE, Source.FALLBACK}
    assert {record.source for record in records} <= local, "every connection came in on local proof"


class client_of:  # noqa: N801 - a context manager, used like a function
    """A `ChatClient` on a connection to come."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def __aenter__(self) -> ChatClient:
        return ChatClient(await self._connection.__aenter__())

    async def __aexit__(self, *error: object) -> None:
        await self._connection.__aexit__(*error)


async def test_what_each_connection_delivers_is_in_order_by_itself() -> None:
    """At every cut: gone on from in mid-run, afterwards, from a log that was tidied, and begun anew; each by AG-UI's verifier."""
    gate, events = Gate(), length_of(SHORTER)
    async with application(gate) as server, AsyncExitStack() as stack:
        reader = await stack.enter_async_context(server.client())
        epoch = (await reader.ask("thread.subscribe", thread_id="t"))["epoch"]
        await reader.envelope()
        await reader.ask("run.start", thread_id="t", run_id="r", message=SHORTER)
        live: list[ChatClient] = []
        for position in range(1, events - 1):  # the last two come together
            assert (await reader.envelope())["seq"] == position
            for place in ({"epoch": epoch, "after_seq": position}, {}):
                live.append(await stack.enter_async_context(server.client()))
                await live[-1].ask("thread.subscribe", thread_id="t", prelude=True, **place)
            gate.open()
        streams = [await delivered(client, resumed=number % 2 == 0) for number, client in enumerate(live)]
        streams += [await replayed(server, epoch, position) for position in range(events)]
        chat: Chat = server.app.state.chat
        await chat.log.tidy("t", up_to=events)
        resumed = 0
        for position in range(events + 1):
            async with server.client() as client:
                place = {"epoch": epoch, "after_seq": position}
                reply = await client.ask("thread.subscribe", thread_id="t", prelude=True, **place)
                resumed += reply["resumed"]
                if position < events:
                    streams.append(await delivered(client, resumed=reply["resumed"], ended=not reply["resumed"]))
    assert 10 < resumed < events // 2 + 1, "inside a joined range nothing can be gone on from"
    assert len(streams) == 2 * (events - 2) + events + events
    assert await judged(*streams) == [None] * len(streams)
    assert None not in await judged(*(stream[1:] for stream in streams)), "it would have seen a fault"


async def replayed(server: ChatServer, epoch: str, position: int) -> list[dict[str, Any]]:
    """What a connection delivers that goes on from there after the run has ended."""
    async with server.client() as client:
        place = {"epoch": epoch, "after_seq": position}
        assert (await client.ask("thread.subscribe", thread_id="t", prelude=True, **place))["resumed"] is True
        return await delivered(client, resumed=True)


async def delivered(client: ChatClient, *, resumed: bool, ended: bool = False) -> list[dict[str, Any]]:
    """All events of the connection, to the end of the run, or of the snapshot's where nothing came after it."""
    events: list[dict[str, Any]] = []
    if not resumed:
        events += [(await client.envelope())["event"] for _ in range(3)]
        assert [event["type"] for event in events] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
    if not ended:
        events += [envelope["event"] for envelope in await client.run()]
    return events


async def test_the_server_is_killed_after_every_event(tmp_path: Path) -> None:
    """As many runs as a run has events, each held at another one, and one SIGKILL for all of them."""
    cuts = range(1, EVENTS)
    tabs = [Tab(f"killed after {cut}", f"t{cut}") for cut in cuts]
    async with FakeAuthService() as auth:
        async with ServeProcess.running(tmp_path / "serve", auth) as process, AsyncExitStack() as stack:
            for tab, cut in zip(tabs, cuts, strict=True):
                client = await stack.enter_async_context(process.client(user_of(cut)))
                await subscribed(client, tab)
                question = f"hold={cut - 1} | {QUESTION}"
                await client.ask("run.start", thread_id=tab.thread_id, run_id=f"r{cut}", message=question)
                tab.frames += [await client.envelope() for _ in range(cut)]
            await process.kill()
        await resumed_after_the_kill(tmp_path, auth, tabs)
    assert [len(events_of(tab.frames)) > cut for tab, cut in zip(tabs, cuts, strict=True)] == [True] * len(tabs)


async def test_the_server_is_killed_in_full_flow(tmp_path: Path) -> None:
    """Wherever each of its runs is: between two events, before a commit, or after it and before the delivery."""
    async with FakeAuthService() as auth:
        tabs: list[Tab] = []
        for kill in range(KILLS):
            numbers = range(100 * kill, 100 * kill + 2 * RUNS_PER_USER)
            cut = [Tab(f"killed in flow {number}", f"t{number}") for number in numbers]
            async with ServeProcess.running(tmp_path / "serve", auth) as process, AsyncExitStack() as stack:
                reading = []
                for tab, number in zip(cut, numbers, strict=True):
                    client = await stack.enter_async_context(process.client(user_of(number)))
                    await subscribed(client, tab)
                    question = f"pace=0.0{number % RUNS_PER_USER}1 | {QUESTION}"
                    await client.ask("run.start", thread_id=tab.thread_id, run_id=f"r{number}", message=question)
                    reading.append(asyncio.create_task(read_until_the_end(client, tab)))
                await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
                await process.kill()
                await asyncio.wait(reading)
            tabs += cut
        await resumed_after_the_kill(tmp_path, auth, [tab for tab in tabs if not ends(tab.frames[-1])])
    assert any(10 < len(tab.frames) < EVENTS for tab in tabs)


async def read_until_the_end(client: ChatClient, tab: Tab) -> None:
    with suppress(ConnectionClosed):
        while not tab.frames or not ends(tab.frames[-1]):
            tab.frames.append(await client.envelope())


async def resumed_after_the_kill(folder: Path, auth: FakeAuthService, tabs: Sequence[Tab]) -> None:
    """Another server on the same data: each tab goes on, and has the whole run, which was ended as interrupted."""
    assert tabs
    uncut: list[Tab] = []
    async with ServeProcess.running(folder / "serve", auth) as process:
        for tab in tabs:
            user = user_of(int(tab.thread_id[1:]))
            async with process.client(user) as client:
                await subscribed(client, tab)
                tab.frames += await client.run()

            def connect(user: str = user) -> AbstractAsyncContextManager[ChatClient]:
                return process.client(user)

            uncut.append(await read_in_one_go(connect, tab.thread_id))
    await hold(tabs, uncut)
    interrupted = [tab.frames[-1]["event"] for tab in tabs if tab.frames[-1]["event"]["type"] == "RUN_ERROR"]
    assert len(interrupted) >= len(tabs) - 1, (
        "only a run that was killed after its last event had been written may be whole"
    )
    assert all((event["code"], event["metadata"]) == ("interrupted", {"retryable": True}) for event in interrupted)
    assert {len(runs_of(events_of(tab.frames))) for tab in tabs} == {1}


def user_of(number: int) -> str:
    """Nobody may have more runs at once than a person may."""
    return f"user-{number // RUNS_PER_USER}"
