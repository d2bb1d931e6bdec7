"""ASGI servers as the programs that they are, each with the options that our pages name."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from doorward.config import child_environment
from doorward.drill.peers import free_port
from doorward.testing import FakeAuthService

START_SECONDS = 90.0
STOP_SECONDS = 20.0
BIN = Path(sys.executable).parent
SOURCES = Path(__file__).parents[1] / "src"

Command = Callable[[str, str], tuple[str, ...]]
"""Made of the app (`module:name`) and of where to listen: a port, or the path of a Unix socket."""


def _uvicorn(*options: str) -> Command:
    def command(app: str, at: str) -> tuple[str, ...]:
        listen = ("--port", at) if at.isdecimal() else ("--uds", at)
        return (str(BIN / "uvicorn"), app, *listen, "--no-access-log", "--no-proxy-headers", *options)

    return command


def _granian(app: str, at: str) -> tuple[str, ...]:
    listen = ("--port", at) if at.isdecimal() else ("--uds", at)
    bounds = ("--http1-header-read-timeout", "2000", "--workers-kill-timeout", "15")
    return (str(BIN / "granian"), app, "--interface", "asgi", *listen, *bounds)


def _hypercorn(app: str, at: str) -> tuple[str, ...]:
    listen = f"127.0.0.1:{at}" if at.isdecimal() else f"unix:{at}"
    return (str(BIN / "hypercorn"), app, "--bind", listen, "--websocket-ping-interval", "1")


def _daphne(app: str, at: str) -> tuple[str, ...]:
    listen = ("--bind", "127.0.0.1", "--port", at) if at.isdecimal() else ("--unix-socket", at)
    return (str(BIN / "daphne"), app, *listen, "--ping-interval", "1")


SERVERS: Mapping[str, Command] = {
    "doorward serve": lambda app, at: (sys.executable, f"{app.partition(':')[0]}.py", at),
    "uvicorn": _uvicorn("--ws", "websockets-sansio", "--ws-ping-interval", "1"),
    "UvicornProtocol": _uvicorn("--http", "doorward:UvicornProtocol", "--ws-ping-interval", "1"),
    "granian": _granian,
    "hypercorn": _hypercorn,
    "daphne": _daphne,
}


@dataclass(frozen=True, slots=True)
class Running:
    """A server that listens; `at` is its port, or the path of its Unix socket."""

    at: str
    process: asyncio.subprocess.Process

    @property
    def port(self) -> int:
        return int(self.at)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.at}"

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.at}/ws"

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), STOP_SECONDS)


def settings_for(auth: FakeAuthService, data_dir: Path) -> dict[str, str]:
    """What the app must be told, by dotted key."""
    return {
        "data_dir": str(data_dir),
        "auth.url": auth.url,
        "auth.service_id": auth.service_id,
        "auth.service_secret": auth.service_secret,
        "auth.audience": auth.audience,
        "auth.issuer": auth.issuer,
    }


def server(
    kind: str, app: str, *, cwd: Path, settings: Mapping[str, str], log: Path, unix: Path | None = None
) -> AbstractAsyncContextManager[Running]:
    """One of `SERVERS` with this app, on a free port or on a Unix socket. What it says goes to `log`."""
    at = str(unix or free_port())
    return listening(SERVERS[kind](app, at), at, cwd, settings, log)


@asynccontextmanager
async def listening(
    command: Sequence[str], at: str, cwd: Path, settings: Mapping[str, str], log: Path
) -> AsyncIterator[Running]:
    """Any program, once it listens at `at`."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=cwd,
            env=child_environment(settings) | {"PYTHONPATH": os.pathsep.join([str(SOURCES), str(cwd)])},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        if not await started(process, at):
            said = await asyncio.to_thread(_said, log)
            pytest.fail(f"{command[0]} did not start: {said[-2000:]}")
        yield Running(at, process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


def _said(log: Path) -> str:
    """A pipe that nobody reads, or a full disk, tells nothing."""
    return log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""


async def started(process: asyncio.subprocess.Process, at: str) -> bool:
    """Wait until somebody listens at `at`: does the process that was to do so still run?"""
    ends_at = asyncio.get_running_loop().time() + START_SECONDS
    while process.returncode is None and asyncio.get_running_loop().time() < ends_at:
        if await _listens(at):
            return True
        await asyncio.sleep(0.05)
    return False


async def _listens(at: str) -> bool:
    try:
        opening = asyncio.open_connection("127.0.0.1", at) if at.isdecimal() else asyncio.open_unix_connection(at)
        _, writer = await opening
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
