"""The door opens with the app and closes after it, whatever the app makes of lifespan."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket
from tests.door_client import opened
from tests.door_server import RunningDoor, auth_settings, running_door, whoami
from uvicorn import Config, Server

from doorward import Doorward, Settings
from doorward.asgi.opening import OpeningCounters, OpeningPolicy
from doorward.asgi.types import App, Receive, Scope, Send
from doorward.cli.server import Server as OwnServer
from doorward.cli.server import bind
from doorward.core.answer import Valid
from doorward.core.deadline import Deadline
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


# Another life


@asynccontextmanager
async def a_life(app: Doorward, auth: FakeAuthService) -> AsyncIterator[RunningDoor]:
    """Another server for the same app, from its start to its end."""
    server = OwnServer(app, opening=OpeningPolicy(), counters=OpeningCounters())
    listener = bind("127.0.0.1", 0, "serve")
    try:
        await server.start(listener)
        running = client_of(app, listener.getsockname()[1], auth)
        await running.settled()
        yield running
    finally:
        await server.stop(Deadline.after(asyncio.get_running_loop().time(), 5.0))
        listener.close()


def door_of(auth: FakeAuthService, tmp_path: Path) -> Doorward:
    """That asks this service without a proxy between."""
    chosen = {"url": auth.url, "audience": (auth.audience,), "service_secret": auth.service_secret}
    session = {"expiring_notice_seconds": 0}
    return Doorward(whoami, Settings(auth=chosen, data_dir=tmp_path / "data", session=session))


async def lives(app: Doorward, auth: FakeAuthService) -> None:
    """A life in which everything works that has an end: questions, background tasks, timers, a drain."""
    async with a_life(app, auth) as running:
        door = app.door
        assert door.ready
        assert len(door.supervisor) > 0
        token = auth.issue("ada", exp=time.time() + 1.2)
        async with opened(running.browser(token)) as page, opened(running.browser(auth.issue("bob"))) as other:
            assert (await page.ask())["assurance"] == "live"
            assert (await page.frame(type="auth.error"))["code"] == "TOKEN_EXPIRED"
            await door.drain(spread_seconds=0.0)
            assert (await other.closed())[0] == 1012
        assert not door.ready
    assert door.opened_at is None
    assert doorward_tasks() == 0


async def test_a_door_lives_again_after_its_end(tmp_path: Path) -> None:
    async with FakeAuthService() as auth:
        app = door_of(auth, tmp_path)
        for _ in range(2):
            await lives(app, auth)


def test_a_door_lives_again_in_another_event_loop(tmp_path: Path) -> None:
    """As with a test client, which makes a loop for each test."""
    auth = FakeAuthService()
    made: list[Doorward] = []

    async def life() -> None:
        async with auth:
            app = made[0] if made else door_of(auth, tmp_path)
            made.append(app)
            await lives(app, auth)

    for _ in range(2):
        asyncio.run(life())


def test_a_door_without_a_lifespan_that_was_drained_lives_again_too(tmp_path: Path) -> None:
    """Its loop ends, and nobody else says that its drain is over."""
    app = Doorward(
        whoami, Settings(auth={"url": "http://127.0.0.1:9", "service_secret": "s"}, data_dir=tmp_path / "data")
    )

    async def life() -> None:
        await app.door.open()
        assert not app.door.draining
        await app.drain(spread_seconds=0.0)
        assert app.door.draining

    for _ in range(2):
        asyncio.run(life())
        assert app.door.opened_at is None
        assert not app.door.draining


@pytest.mark.parametrize("has_lifespan", [True, False])
def test_a_test_client_may_use_the_app_again(has_lifespan: bool, tmp_path: Path) -> None:
    """Without a lifespan nobody closes the door, and the loop it was opened in ends with each socket."""

    class Knows:
        async def validate(self, token: str, *, deadline: Deadline) -> Valid:
            return Valid(token)

    threads = threading.active_count()
    settings = Settings(auth={"url": "http://127.0.0.1:9"}, data_dir=tmp_path / "data")
    app = Doorward(starlette([]), settings, validator=Knows())
    for name in ("ada", "bob"):
        with ExitStack() as stack:
            client = TestClient(app)
            if has_lifespan:
                stack.enter_context(client)
            with client.websocket_connect("/ws", headers={"Authorization": f"Bearer {name}"}) as socket:
                socket.send_text("who am I?")
                assert socket.receive_json() == {"text": "who am I?", "user_id": name}
                assert len(app.door.supervisor) > 0
        assert app.door.opened_at is None
        assert len(app.door.supervisor) == 0
    ended = time.monotonic() + 5
    while threading.active_count() > threads:
        assert time.monotonic() < ended, "no thread is left"
        time.sleep(0.01)


async def test_an_opening_that_is_given_up_does_not_end_the_next(tmp_path: Path) -> None:
    app = Doorward(
        whoami, Settings(auth={"url": "http://127.0.0.1:9", "service_secret": "s"}, data_dir=tmp_path / "data")
    )
    opening = asyncio.create_task(app.door.open())
    await asyncio.sleep(0)
    await asyncio.gather(app.door.aclose(), app.door.open(), opening, return_exceptions=True)
    await app.door.open()
    opened_at = app.door.opened_at
    assert opened_at is not None
    await app.door.open()
    assert app.door.opened_at == opened_at
    await app.door.aclose()
    await app.door.aclose()
    assert doorward_tasks() == 0


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
