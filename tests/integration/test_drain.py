"""The way from the signal to the exit, with a real process and real signals."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from doorward.cli.server import DrainPolicy, _why_not_bound, bind, run_server
from doorward.errors import ConfigError, DoorwardError

SCRIPT = Path(__file__).with_name("drain_server.py")
PATIENCE_SECONDS = 10.0
QUICK: dict[str, float] = {"delay_seconds": 0.0, "spread_seconds": 0.1, "run_until_seconds": 1.0, "exit_seconds": 2.0}


@dataclass
class Process:
    process: asyncio.subprocess.Process
    port: int = 0
    lines: list[str] = field(default_factory=list)
    signalled_at: float = 0.0

    def send(self, number: int) -> None:
        self.signalled_at = time.monotonic()
        self.process.send_signal(number)

    async def line(self) -> str:
        assert self.process.stdout is not None
        line = (await asyncio.wait_for(self.process.stdout.readline(), PATIENCE_SECONDS)).decode().strip()
        self.lines.append(line)
        return line

    async def exit_code(self) -> int:
        return await asyncio.wait_for(self.process.wait(), PATIENCE_SECONDS)

    @property
    def took_seconds(self) -> float:
        return time.monotonic() - self.signalled_at

    async def output(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.read(), PATIENCE_SECONDS)).decode()

    async def errors(self) -> str:
        assert self.process.stderr is not None
        return (await asyncio.wait_for(self.process.stderr.read(), PATIENCE_SECONDS)).decode()

    async def get(self, path: str) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path.encode())
        response = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
        writer.close()
        await writer.wait_closed()
        return int(response.split(b" ")[1]), response.partition(b"\r\n\r\n")[2]


@asynccontextmanager
async def running(*, ready: bool = True, **options: Any) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SCRIPT),
        json.dumps({"drain": QUICK} | options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    server = Process(process)
    try:
        if ready:
            match = re.fullmatch(r"doorward serve ready http://127\.0\.0\.1:(\d+) pid=(\d+)", await server.line())
            assert match, server.lines
            assert int(match[2]) == process.pid
            server.port = int(match[1])
        yield server
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_drain_in_its_order() -> None:
    drain = {"delay_seconds": 0.8, "spread_seconds": 0.3, "run_until_seconds": 5.0, "exit_seconds": 8.0}
    async with running(drain=drain) as server, connect(f"ws://127.0.0.1:{server.port}/") as client:
        assert (await server.get("/readyz"))[0] == 200
        server.send(signal.SIGTERM)
        assert await server.line() == "unready"

        assert (await server.get("/readyz"))[0] == 503
        async with connect(f"ws://127.0.0.1:{server.port}/") as late:  # the delay: still serving
            await late.send("still here")
            assert await asyncio.wait_for(late.recv(), PATIENCE_SECONDS) == "still here"

        assert await server.line() == "drain 0.3"
        assert 0.7 < server.took_seconds < 1.5
        with pytest.raises(InvalidStatus) as refused:  # no 500, no connection refused
            await connect(f"ws://127.0.0.1:{server.port}/")
        assert (refused.value.response.status_code, refused.value.response.body) == (503, b"RESTARTING")
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(client.recv(), PATIENCE_SECONDS)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "RESTARTING;id=1")

        assert await server.exit_code() == 0
        assert await server.output() == "ended\n"
        assert server.took_seconds < 4.0, "nothing was left to wait for"


async def test_runs_get_their_time() -> None:
    async with running(mode="runs") as server:
        server.send(signal.SIGTERM)
        assert await server.exit_code() == 0
        assert 0.9 < server.took_seconds < 1.9
        assert (await server.output()).splitlines() == ["unready", "drain 0.1", "interrupted", "ended"]


async def test_ctrl_c_waits_for_no_load_balancer() -> None:
    drain = {"delay_seconds": 5.0, "spread_seconds": 60.0, "run_until_seconds": 8.0, "exit_seconds": 10.0}
    async with running(drain=drain) as server:
        server.send(signal.SIGINT)
        assert await server.exit_code() == 0
        assert server.took_seconds < 3.0
        assert "drain 1\n" in await server.output()


@pytest.mark.parametrize("mode", ["hanging drain", "hanging end", "blocked loop", "stubborn task"])
async def test_nothing_holds_the_exit(mode: str) -> None:
    async with running(mode=mode) as server:
        server.send(signal.SIGTERM)
        code = await server.exit_code()
        assert server.took_seconds < 2.0 + 0.5
        assert code == (0 if mode == "stubborn task" else 1)


async def test_a_thread_that_does_not_end_does_not_hold_the_exit() -> None:
    async with running(mode="stubborn thread", drain=QUICK | {"exit_seconds": 30.0}) as server:
        server.send(signal.SIGTERM)
        assert await server.exit_code() == 0
        assert server.took_seconds < 7.0
        assert "leaving it behind" in await server.errors()


async def test_a_drain_that_fails_is_not_clean() -> None:
    async with running(mode="failing drain") as server:
        server.send(signal.SIGTERM)
        assert await server.exit_code() == 1
        assert (await server.output()).splitlines()[-1] == "ended"
        assert "the drain failed" in await server.errors()


@pytest.mark.parametrize("mode", ["hanging drain", "blocked loop"])
async def test_a_second_signal_exits_at_once(mode: str) -> None:
    drain = QUICK | {"run_until_seconds": 50.0, "exit_seconds": 60.0}
    async with running(mode=mode, drain=drain) as server:
        server.send(signal.SIGINT)
        await server.line()
        assert (await server.line()).startswith("drain")
        server.send(signal.SIGTERM)
        assert await server.exit_code() == 128 + signal.SIGTERM
        assert server.took_seconds < 0.5


async def test_a_signal_while_starting_ends_it() -> None:
    async with running(mode="slow start", ready=False) as server:
        assert await server.line() == "starting"
        server.send(signal.SIGTERM)
        assert await server.exit_code() == 0
        assert server.took_seconds < 3.0
        assert await server.output() == ""


async def test_unfinished_connections_do_not_hold_the_exit() -> None:
    async with running() as server:
        silent = await asyncio.open_connection("127.0.0.1", server.port)
        half = await asyncio.open_connection("127.0.0.1", server.port)
        half[1].write(b"GET / HTTP/1.1\r\n")
        server.send(signal.SIGTERM)
        assert await server.exit_code() == 0
        assert server.took_seconds < 1.9
        for _, writer in (silent, half):
            writer.close()


async def test_a_busy_port_is_named_with_the_mend() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        async with running(port=port, ready=False) as server:
            assert await server.exit_code() == 2
            assert await server.output() == ""
            text = await server.errors()
    assert f"port {port} on 127.0.0.1 is already in use" in text
    assert "--port or DOORWARD_SERVE__PORT" in text


def test_an_address_that_is_not_ours_is_named() -> None:
    with pytest.raises(ConfigError, match=r"authd cannot listen on port 0 of 192\.0\.2\.1"):
        bind("192.0.2.1", 0, "authd")
    with pytest.raises(ConfigError, match="DOORWARD_AUTHD__HOST"):
        bind("not an address", 0, "authd")


@pytest.mark.parametrize(
    ("number", "mend"),
    [(errno.EACCES, "choose one above 1023 with --port or DOORWARD_SERVE__PORT"), (errno.EADDRINUSE, "already in use")],
)
def test_the_mend_fits_the_error(number: int, mend: str) -> None:
    """Root may listen anywhere, so that a privileged port cannot be refused for real in every place this runs."""
    assert mend in _why_not_bound(OSError(number, "no"), "127.0.0.1", 80, "serve")


async def test_an_error_that_nobody_expected_comes_through() -> None:
    async with running(mode="crash", ready=False) as server:
        assert await server.exit_code() == 1
        assert "RuntimeError: no way to start" in await server.errors()


# Within one process


class App:
    """An application whose lifespan does what it is told."""

    def __init__(self, *, message: dict[str, Any] | None = None, error: Exception | None = None) -> None:
        self.message = message
        self.error = error

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if self.message is not None:
            await send(self.message)
        if self.error is not None:
            raise self.error
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


async def serve(app: App, stop: asyncio.Event, **options: Any) -> int:
    policy = DrainPolicy(**QUICK)
    return await run_server(app, name="authd", host="127.0.0.1", port=0, drain=policy, stop=stop, **options)


@pytest.mark.parametrize(
    "app",
    [
        pytest.param(App(message={"type": "lifespan.startup.complete"}), id="with lifespan"),
        pytest.param(App(error=ValueError("unknown scope type")), id="without lifespan"),
    ],
)
async def test_a_program_can_ask_it_to_stop(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    stop, heard = asyncio.Event(), []

    def ready(host: str, port: int) -> None:
        heard.append((host, port))
        stop.set()

    before = signal.getsignal(signal.SIGTERM)
    assert await asyncio.wait_for(serve(app, stop, ready=ready), PATIENCE_SECONDS) == 0
    ((host, port),) = heard
    assert capsys.readouterr().out == f"doorward authd ready http://{host}:{port} pid={os.getpid()}\n"
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, port)


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        (App(error=ConfigError("auth.url is not set")), "auth.url is not set"),
        (App(message={"type": "lifespan.startup.failed", "message": "Traceback\nValueError: no disk"}), "no disk"),
        (
            App(message={"type": "lifespan.startup.failed", "message": "x"}, error=ConfigError("auth.url is not set")),
            "auth.url is not set",
        ),
        (App(message={"type": "lifespan.startup.failed"}), "no reason given"),
    ],
)
async def test_why_an_application_did_not_start_is_said(app: App, expected: str) -> None:
    with pytest.raises(DoorwardError, match=expected):
        await asyncio.wait_for(serve(app, asyncio.Event()), PATIENCE_SECONDS)


async def test_a_cancelled_server_leaves_nothing() -> None:
    started = asyncio.Event()
    app = App(message={"type": "lifespan.startup.complete"})
    task = asyncio.create_task(serve(app, asyncio.Event(), ready=lambda _host, _port: started.set()))
    await asyncio.wait_for(started.wait(), PATIENCE_SECONDS)
    task.cancel()
    await asyncio.wait({task}, timeout=PATIENCE_SECONDS)
    assert task.cancelled()
    assert asyncio.all_tasks() == {asyncio.current_task()}
