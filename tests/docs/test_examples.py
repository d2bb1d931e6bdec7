"""The examples run as the pages tell people to run them: as programs, on uvicorn and on another server, with real clients."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets
from aiohttp import web
from tests.docs.pages import ROOT
from tests.door_client import frames, heard
from tests.servers import listening, server, settings_for
from websockets.exceptions import InvalidStatus

from doorward.config import child_environment
from doorward.drill.peers import free_port
from doorward.testing import FakeAuthService, eventually, opaque_token

START_SECONDS = 30.0
STOP_SECONDS = 20.0
OPTIONS = ["--host", "127.0.0.1", "--port", "0", "--http", "doorward:UvicornProtocol", "--no-access-log"]
ELSEWHERE = {
    "starlette_app": "granian",
    "fastapi_app": "granian",
    "litestar_app": "granian",
    "quart_app": "hypercorn",
    "channels_app": "daphne",
    "bare_app": "granian",
}
HOLDING = """
import asyncio, starlette_app as it
async def hold(ws):
    await ws.accept("doorward.v1")
    await ws.send_text("in")
    await ws.receive_text()
it.app.app.router.routes[0].app = it.WebSocketRoute("/ws", hold).app
"""
DRAINING = {
    "drain_uvicorn": "it.DrainingServer(it.uvicorn.Config(it.app, port={port}, http=it.UvicornProtocol)).run()",
    "drain_granian": "asyncio.run(it.serve({port}))",
    "drain_hypercorn": "asyncio.run(it.main({port}))",
    "drain_daphne": "it.run({port})",
}
"""An app that stays, under each example of a drain."""


@asynccontextmanager
async def program(*arguments: str, settings: dict[str, str]) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A Python program in the folder of the examples, and the address that it says it listens on."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=ROOT / "examples",
        env=child_environment(settings),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    reading: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(START_SECONDS):
            address = await _address(process.stderr)
        reading = asyncio.create_task(_drained(process.stderr))
        yield process, f"ws://{address}/ws"
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
        if reading is not None:
            await reading


async def _address(stderr: asyncio.StreamReader) -> str:
    said = []
    while line := (await stderr.readline()).decode():
        said.append(line)
        if found := re.search(r"running on http://(\S+:\d+)", line):
            return found[1]
    raise AssertionError("".join(said))


async def _drained(stderr: asyncio.StreamReader) -> None:
    while await stderr.readline():
        pass


def connect(
    url: str, token: str | None, *, headers: Mapping[str, str] | None = None, **options: Any
) -> websockets.connect:
    headers = {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}
    return websockets.connect(url, additional_headers=headers, proxy=None, open_timeout=30, **options)


async def refused(url: str, token: str | None, **options: Any) -> dict[str, Any]:
    """The problem details of a refusal."""
    with pytest.raises(InvalidStatus) as caught:
        async with connect(url, token, **options):
            pass
    problem: dict[str, Any] = json.loads(bytes(caught.value.response.body or b""))
    return problem


async def test_the_starlette_example_lets_in_whom_it_should(tmp_path: Path) -> None:
    async with FakeAuthService() as auth:
        settings = settings_for(auth, tmp_path / "data")
        async with program("-m", "uvicorn", "starlette_app:app", *OPTIONS, settings=settings) as (_, url):
            async with connect(url, auth.issue("ada")) as client:
                assert await client.recv() == "hello ada"
            assert (await refused(url, None))["code"] == "AUTH_REQUIRED"
            assert (await refused(url, auth.mint.forged("ada")))["code"] == "TOKEN_INVALID"
            auth.reject(token := auth.issue("bob"))
            assert (await refused(url, token))["code"] == "TOKEN_REJECTED"
            await auth.aclose()
            assert (await refused(url, opaque_token()))["code"] == "SERVICE_UNAVAILABLE"


@pytest.mark.parametrize("example", ["fastapi_app", "litestar_app", "quart_app", "channels_app", "bare_app"])
async def test_the_example_of_a_framework_lets_in_whom_it_should(example: str, tmp_path: Path) -> None:
    async with FakeAuthService() as auth:
        settings = settings_for(auth, tmp_path / "data")
        async with program("-m", "uvicorn", f"{example}:app", *OPTIONS, settings=settings) as (_, url):
            await lets_in_whom_it_should(url, auth)
            assert (await refused(url, None))["code"] == "AUTH_REQUIRED"


@pytest.mark.timeout(240)
async def test_every_example_does_so_on_another_server(tmp_path: Path) -> None:
    """All at once: most of it is waiting for them to start."""
    await asyncio.gather(*(works_elsewhere(example, kind, tmp_path) for example, kind in ELSEWHERE.items()))


async def works_elsewhere(example: str, kind: str, tmp_path: Path) -> None:
    async with FakeAuthService() as auth:
        settings = settings_for(auth, tmp_path / example)
        app, log = f"{example}:app", tmp_path / f"{example}.log"
        async with server(kind, app, cwd=ROOT / "examples", settings=settings, log=log) as running:
            if example == "starlette_app":
                async with connect(running.url, auth.issue("ada")) as client:
                    assert await client.recv() == "hello ada"
            else:
                await lets_in_whom_it_should(running.url, auth, reasons=kind != "daphne")
            assert await answer_of(running.url, None) == (403 if kind == "daphne" else 401), example


async def lets_in_whom_it_should(url: str, auth: FakeAuthService, *, reasons: bool = True) -> None:
    """Args: reasons: the server sends close reasons."""
    async with connect(url, auth.issue("ada"), subprotocols=["doorward.v1"]) as client:
        assert client.subprotocol == "doorward.v1"
        assert json.loads(await client.recv())["notice"] == "auth.assurance"
        await heard(client, "hello ada")
        await client.send("and now?")
        await heard(client, "and now?")
        auth.revoke(user_id="ada")
        async with asyncio.timeout(15):
            assert [frame async for frame in frames(client)][-1]["code"] == "TOKEN_REVOKED"
        assert client.close_code == 3000
        assert (client.close_reason or "").split(";")[0] == ("TOKEN_REVOKED" if reasons else "")
    about = url.replace("ws:", "http:").replace("/ws", "/about")
    async with aiohttp.ClientSession() as http, http.get(about) as answer:
        assert (answer.status, await answer.json()) == (200, {"about": "nobody is asked for a token here"})


async def test_the_own_validator_example_asks_userinfo(tmp_path: Path) -> None:
    known, broken = opaque_token(), opaque_token()

    async def userinfo(request: web.Request) -> web.Response:
        if request.headers["Authorization"] == f"Bearer {broken}":
            return web.Response(status=500)
        if request.headers["Authorization"] != f"Bearer {known}":
            return web.Response(status=401)
        return web.json_response({"sub": "ada", "email": "ada@example.com"})

    application = web.Application()
    application.router.add_get("/userinfo", userinfo)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        settings = {"data_dir": str(tmp_path / "data"), "auth.url": f"http://127.0.0.1:{runner.addresses[0][1]}"}
        async with program("-m", "uvicorn", "own_validator:app", *OPTIONS, settings=settings) as (_, url):
            async with connect(url, known) as client:
                assert await client.recv() == "ada"
            assert (await refused(url, opaque_token()))["code"] == "TOKEN_REJECTED"
            problem = await refused(url, broken)
            assert (problem["code"], problem["cause"]) == ("SERVICE_UNAVAILABLE", "upstream")
    finally:
        await runner.cleanup()


def test_the_tests_of_the_tested_app_pass(tmp_path: Path) -> None:
    """In a project of their own, with nothing of ours around."""
    project = shutil.copytree(ROOT / "examples" / "tested_app", tmp_path / "project")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(project), "-W", "ignore"]
    env = child_environment({}) | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=90, check=False)

    assert ran.returncode == 0, ran.stdout
    assert re.search(r"\b5 passed", ran.stdout), ran.stdout


@pytest.mark.timeout(240)
async def test_a_drain_closes_with_advice_and_answers_who_is_under_way(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:  # first all that take a port: one that was found to be free must stay so
        services = [await stack.enter_async_context(FakeAuthService()) for _ in DRAINING]
        ends = await asyncio.gather(
            *(drained(example, auth, tmp_path) for example, auth in zip(DRAINING, services, strict=True))
        )
    assert dict(zip(DRAINING, ends, strict=True)) == {
        "drain_uvicorn": (1012, "RESTARTING", 503),
        "drain_granian": (1012, "RESTARTING", 503),
        "drain_hypercorn": (1012, "RESTARTING", 503),
        "drain_daphne": (4503, "", 4503),
    }


async def drained(example: str, auth: FakeAuthService, tmp_path: Path) -> tuple[int | None, str, int | None]:
    """How an open socket ends, and what a handshake gets that was under way."""
    port, log = free_port(), tmp_path / f"{example}.log"
    code = f"{HOLDING}\nimport {example} as it\n{DRAINING[example].format(port=port)}"
    settings = settings_for(auth, tmp_path / example)
    async with listening([sys.executable, "-c", code], str(port), ROOT / "examples", settings, log) as running:
        protocols = [websockets.Subprotocol("doorward.v1")]
        async with connect(running.url, auth.issue("ada"), subprotocols=protocols) as client:
            await heard(client, "in")
            auth.latency_seconds = 1.0
            under_way = asyncio.ensure_future(answer_of(running.url, token := opaque_token()))
            await eventually(lambda: auth.asked_about[token], within_seconds=15, what="the question is out")
            running.terminate()
            async with asyncio.timeout(20):
                last = [frame async for frame in frames(client)][-2:]
        assert [frame.get("code") or frame["notice"] for frame in last] == ["server.draining", "RESTARTING"]
        assert last[1]["retry_after_ms"] >= 0
        assert await running.ended() in {0, -signal.SIGTERM}
        return client.close_code, (client.close_reason or "").split(";")[0], await under_way


async def answer_of(url: str, token: str | None) -> int | None:
    """The status of a refusal; where there was none, the close code."""
    try:
        async with connect(url, token) as client:
            await client.wait_closed()
            return client.close_code
    except InvalidStatus as refused:
        return refused.response.status_code
