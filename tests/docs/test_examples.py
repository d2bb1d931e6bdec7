"""The examples run as the pages tell people to run them: as programs, on plain uvicorn, with real clients."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets
from aiohttp import web
from tests.docs.pages import ROOT
from websockets.exceptions import ConnectionClosed, InvalidStatus

from doorward.config import child_environment
from doorward.testing import Endpoint, FakeAuthService, opaque_token

START_SECONDS = 30.0
STOP_SECONDS = 20.0
OPTIONS = ["--host", "127.0.0.1", "--port", "0", "--ws", "websockets-sansio", "--no-access-log"]
DRAINING = (
    "import uvicorn, drain_uvicorn as example;"
    "example.DrainingServer(uvicorn.Config(example.app, port=0, timeout_graceful_shutdown=15, access_log=False)).run()"
)


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


def settings_for(auth: FakeAuthService, data_dir: Path) -> dict[str, str]:
    return {
        "data_dir": str(data_dir),
        "auth.url": auth.url,
        "auth.service_id": auth.service_id,
        "auth.service_secret": auth.service_secret,
        "auth.audience": auth.audience,
        "auth.issuer": auth.issuer,
    }


def connect(url: str, token: str | None, **options: Any) -> websockets.connect:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return websockets.connect(url, additional_headers=headers, proxy=None, open_timeout=10, **options)


async def refused(url: str, token: str | None) -> dict[str, Any]:
    """The problem details of a refusal."""
    with pytest.raises(InvalidStatus) as caught:
        async with connect(url, token):
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
            async with connect(url, auth.issue("ada"), subprotocols=["doorward.v1"]) as client:
                assert client.subprotocol == "doorward.v1"
                assert json.loads(await client.recv())["notice"] == "auth.assurance"
                assert await client.recv() == "hello ada"
                await client.send("and now?")
                assert await client.recv() == "and now?"
                auth.revoke(user_id="ada")
                assert json.loads(await client.recv())["code"] == "TOKEN_REVOKED"
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert (client.close_code, (client.close_reason or "").split(";")[0]) == (3000, "TOKEN_REVOKED")
            assert (await refused(url, None))["code"] == "AUTH_REQUIRED"
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


async def test_the_drain_example_closes_with_advice(tmp_path: Path) -> None:
    app = "import starlette_app as it, asyncio\nasync def hold(ws):\n    await ws.accept(); await ws.receive_text()\n"
    app += "it.app.app.router.routes[0].app = it.WebSocketRoute('/ws', hold).app\n"
    async with FakeAuthService() as auth:
        settings = settings_for(auth, tmp_path / "data")
        async with program("-c", app + DRAINING, settings=settings) as (process, url):
            async with connect(url, auth.issue("ada")) as client:
                process.send_signal(signal.SIGTERM)
                with pytest.raises(ConnectionClosed) as closed:
                    await asyncio.wait_for(client.recv(), 15)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
            assert closed.value.rcvd.reason.startswith("RESTARTING;retry_after_ms=")
            assert await asyncio.wait_for(process.wait(), STOP_SECONDS) in {0, -signal.SIGTERM}
            assert auth.calls[Endpoint.VALIDATE] >= 1
