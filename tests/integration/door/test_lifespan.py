"""The door opens with the app and closes after it, whatever the app makes of lifespan."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from tests.door_client import opened
from tests.door_server import RunningDoor, auth_settings, running_door, whoami
from uvicorn import Config, Server

from doorward import Doorward, Settings
from doorward.asgi.types import App, Receive, Scope, Send
from doorward.cli.server import bind
from doorward.errors import ConfigError
from doorward.testing import FakeAuthService, FaultProxy, eventually


async def chat(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_json({"text": text, "user_id": socket.scope["doorward"].principal.user_id})


def starlette(events: list[str]) -> Starlette:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        events.append("started")
        yield
        events.append("stopped")

    return Starlette(routes=[WebSocketRoute("/ws", chat)], lifespan=lifespan)


async def test_an_app_with_a_lifespan_of_its_own(tmp_path: Path) -> None:
    events: list[str] = []
    async with running_door(tmp_path, app=starlette(events)) as running:
        assert events == ["started"]
        assert running.door.opened_at is not None
        async with opened(running.browser(running.auth.issue("ada"))) as page:
            assert (await page.ask())["user_id"] == "ada"
            assert page.client.subprotocol == "doorward.v1"
    assert events == ["started", "stopped"]


async def test_an_app_that_raises_on_lifespan(tmp_path: Path) -> None:
    async with running_door(tmp_path, app=whoami) as running:
        assert running.door.opened_at is not None
        assert (await running.ask(running.auth.issue("ada"))).status == 101


async def returns_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    """Neither an error nor a word."""
    if scope["type"] == "websocket":
        await whoami(scope, receive, send)


async def leaves_after_the_start(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await whoami(scope, receive, send)
        return
    await receive()
    await send({"type": "lifespan.startup.complete"})


@pytest.mark.parametrize("app", [returns_at_once, leaves_after_the_start])
async def test_an_app_that_leaves_its_lifespan_makes_no_difference(app: App, tmp_path: Path) -> None:
    async with running_door(tmp_path, app=app) as running:
        assert running.door.opened_at is not None
        assert (await running.ask(running.auth.issue("ada"))).status == 101
        before = len(running.door.supervisor)
        assert before > 0
    assert len(running.door.supervisor) == 0


async def test_an_app_that_cannot_start_closes_the_door_again(tmp_path: Path) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    before = doorward_tasks()
    with pytest.raises(ConfigError, match="no database"):
        async with running_door(tmp_path, app=broken):
            pytest.fail("it must not start")
    await eventually(lambda: doorward_tasks() == before, what="nothing of the door goes on")


def doorward_tasks() -> int:
    return sum(task.get_name().startswith("doorward:") for task in asyncio.all_tasks())


@asynccontextmanager
async def without_lifespan(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[Doorward, int, FakeAuthService]]:
    """uvicorn with `--lifespan off`: the door hears of nothing before the first handshake, and of nothing at the end."""
    async with FakeAuthService() as auth, FaultProxy(auth.host, auth.port, seed=1) as proxy:
        loaded = Settings(auth=dict(auth_settings(auth, proxy)), data_dir=tmp_path / "data", **settings)
        app = Doorward(whoami, loaded)
        server = Server(Config(app, lifespan="off", ws="websockets-sansio", log_level="warning", log_config=None))
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        listener = bind("127.0.0.1", 0, "serve")
        serving = asyncio.create_task(server._serve([listener]))
        try:
            await eventually(lambda: server.started, what="uvicorn has started")
            yield app, listener.getsockname()[1], auth
        finally:
            server.should_exit = True
            await asyncio.wait_for(serving, 10)
            await app.door.aclose()
            listener.close()


async def test_without_any_lifespan_the_first_handshake_opens_the_door(tmp_path: Path) -> None:
    async with without_lifespan(tmp_path) as (app, port, auth):
        assert app.door.opened_at is None
        running = client_of(app, port, auth)
        answers = await asyncio.gather(*(running.ask(auth.issue(f"user-{number}")) for number in range(5)))
        assert {answer.status for answer in answers} == {101}
        assert app.door.opened_at is not None


async def test_a_door_that_cannot_open_says_so_and_heals(tmp_path: Path) -> None:
    """A file where the data directory should be: `Unavailable`, never in; and a later handshake finds it mended."""
    blocker = tmp_path / "data"
    blocker.write_text("in the way")
    threads = threading.active_count()
    async with without_lifespan(tmp_path, deadline_seconds=1.0) as (app, port, auth):
        running = client_of(app, port, auth)
        token = auth.issue("ada")
        for _ in range(3):
            answer = await running.ask(token)
            assert (answer.status, answer.code, answer.cause) == (503, "SERVICE_UNAVAILABLE", "store")
            assert answer.seconds < 1.2
        assert auth.asked_about[token] == 0
        blocker.unlink()
        async with asyncio.timeout(5):
            while (await running.ask(token)).status != 101:
                pass
    await eventually(lambda: threading.active_count() <= threads, what="no thread is left")


def client_of(app: Doorward, port: int, auth: FakeAuthService) -> RunningDoor:
    """The client side of the test kit, for a server that it did not start."""
    return RunningDoor(app.door, app, port, auth, FaultProxy(auth.host, auth.port))


async def test_a_data_directory_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    events: list[str] = []
    with pytest.raises(ConfigError, match="data"):
        async with running_door(tmp_path, app=starlette(events)):
            pytest.fail("it must not start")
    assert events == []


async def test_a_door_opens_once(tmp_path: Path) -> None:
    async with running_door(tmp_path) as running:
        opened_at = running.door.opened_at
        await asyncio.gather(*(running.door.open() for _ in range(3)))
        assert running.door.opened_at == opened_at


async def test_an_app_that_fails_at_its_end_still_closes_the_door(tmp_path: Path) -> None:
    async def falls(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise RuntimeError("fell over")

    async with running_door(tmp_path, app=falls) as running:
        assert len(running.door.supervisor) > 0
    assert len(running.door.supervisor) == 0
