"""Lifespan message by message: what the server hears, and whether the door is open, for apps that keep to it and others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from doorward import Settings
from doorward.asgi.door import Door
from doorward.asgi.lifespan import Lifespan
from doorward.asgi.types import App, Message, Receive, Scope, Send
from doorward.testing import eventually

STARTUP, SHUTDOWN = {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}
STARTED, STOPPED = {"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}


@dataclass
class Server:
    door: Door
    inbox: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    heard: list[Message] = field(default_factory=list)

    async def hear(self, message: Message) -> None:
        self.heard.append(message)

    def run(self, app: App) -> asyncio.Task[None]:
        return asyncio.create_task(Lifespan(app, self.door, self.inbox.get, self.hear).run({"type": "lifespan"}))

    @property
    def is_open(self) -> bool:
        return len(self.door.supervisor) > 0


@pytest.fixture(name="server")
async def a_server(tmp_path: Path) -> AsyncIterator[Server]:
    settings = Settings(auth={"url": "http://127.0.0.1:9", "service_secret": "s"}, data_dir=tmp_path / "data")
    server = Server(Door(settings))
    yield server
    await server.door.aclose()


Steps = Callable[[Receive, Send], Awaitable[None]]


def app(steps: Steps) -> App:
    async def made(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope == {"type": "lifespan"}
        await steps(receive, send)

    return made


async def proper(receive: Receive, send: Send) -> None:
    await receive()
    await send(STARTED)
    await receive()
    await send(STOPPED)


async def none_at_all(receive: Receive, send: Send) -> None:
    raise NotImplementedError


async def silent(receive: Receive, send: Send) -> None:
    return


async def falls_over_at_the_start(receive: Receive, send: Send) -> None:
    await receive()
    raise RuntimeError("at the start")


async def falls_over_half_way(receive: Receive, send: Send) -> None:
    await receive()
    await send(STARTED)
    raise RuntimeError("half way")


async def leaves_without_a_word(receive: Receive, send: Send) -> None:
    await receive()
    await send(STARTED)
    await receive()


@pytest.mark.parametrize(
    "steps", [proper, none_at_all, silent, falls_over_at_the_start, falls_over_half_way, leaves_without_a_word]
)
async def test_the_server_hears_a_start_and_an_end_once(steps: Steps, server: Server) -> None:
    task = server.run(app(steps))
    assert server.heard == []
    server.inbox.put_nowait(STARTUP)
    await eventually(lambda: server.heard == [STARTED], what="the start")
    assert server.is_open
    server.inbox.put_nowait(SHUTDOWN)
    await asyncio.wait_for(task, 10)
    assert server.heard == [STARTED, STOPPED]
    assert not server.is_open


async def test_an_end_that_fails_is_said(server: Server) -> None:
    async def falls_over_at_the_end(receive: Receive, send: Send) -> None:
        await receive()
        await send(STARTED)
        await receive()
        raise RuntimeError("at the end")

    task = server.run(app(falls_over_at_the_end))
    server.inbox.put_nowait(STARTUP)
    server.inbox.put_nowait(SHUTDOWN)
    await asyncio.wait_for(task, 10)
    assert server.heard == [STARTED, {"type": "lifespan.shutdown.failed", "message": "RuntimeError: at the end"}]
    assert not server.is_open


async def test_a_start_that_fails_is_the_apps_own_word(server: Server) -> None:
    failed = {"type": "lifespan.startup.failed", "message": "no database"}

    async def says_and_raises(receive: Receive, send: Send) -> None:
        await receive()
        await send(failed)
        raise RuntimeError("no database")

    task = server.run(app(says_and_raises))
    server.inbox.put_nowait(STARTUP)
    with pytest.raises(RuntimeError, match="no database"):
        await asyncio.wait_for(task, 10)
    assert server.heard == [failed]
    assert not server.is_open


async def catches_everything(receive: Receive, send: Send) -> None:
    try:
        await receive()
    except Exception as error:  # noqa: BLE001 - as some frameworks do
        await send({"type": "lifespan.startup.failed", "message": f"startup raised {type(error).__name__}"})


@pytest.mark.parametrize("steps", [proper, none_at_all, catches_everything])
async def test_a_door_that_cannot_open_is_why_nothing_starts(steps: Steps, server: Server, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    task = server.run(app(steps))
    server.inbox.put_nowait(STARTUP)
    await asyncio.wait_for(task, 10)
    (heard,) = server.heard
    assert heard["type"] == "lifespan.startup.failed"
    assert str(tmp_path / "data") in heard["message"]
    assert not server.is_open


async def test_a_cancelled_lifespan_closes_the_door(server: Server) -> None:
    task = server.run(app(proper))
    server.inbox.put_nowait(STARTUP)
    await eventually(lambda: server.is_open, what="the door is open")
    task.cancel()
    await asyncio.wait({task}, timeout=10)
    assert task.cancelled()
    assert not server.is_open
