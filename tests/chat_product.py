"""`doorward authd` and `doorward serve` as processes, with a fault proxy before each: what a client meets in real life."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.cli_support import environment

from doorward.testing import FaultProxy

ROOT = Path(__file__).parents[1]
EMAIL = "ada@example.com"
PASSWORD = "correct horse battery"
READY_SECONDS = 40.0
ISSUER = "http://auth.test"


@dataclass
class Server:
    """One `doorward ...` process that has said that it is ready."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """SIGKILL, and wait for it."""
        self.process.kill()
        self.process.communicate()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


def start(folder: Path, *command: str, **variables: str) -> Server:
    """`doorward COMMAND --port 0`. Blocks until it is ready."""
    env = environment(variables) | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    with open(folder / f"{command[0]}.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "doorward", *command, "--port", "0"],
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    line = _first_line(process)
    match = re.search(rb"ready http://127\.0\.0\.1:(\d+) ", line)
    if match is None:
        process.kill()
        process.communicate()
        raise AssertionError(f"{command} did not start: {(folder / f'{command[0]}.log').read_text()[-2000:]}")
    return Server(process, int(match[1]))


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    ends_at, line = time.monotonic() + READY_SECONDS, b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n") and selector.select(max(ends_at - time.monotonic(), 0)):
            piece = os.read(process.stdout.fileno(), 4096)
            line += piece
            if not piece:
                break
    return line


@dataclass
class Product:
    """Both processes. `serve_settings` hold at the next start of `serve`."""

    folder: Path
    authd: Server
    serve: Server
    auth_port: int
    serve_settings: dict[str, str] = field(default_factory=dict)

    def restart(self) -> None:
        """Start `serve` anew on the same data; it was killed before."""
        self.serve = start(self.folder, "serve", **self.serve_settings)


@contextmanager
def product(
    folder: Path, *, auth_port: int, agent: str = "tests.chat_scripted:AGENT", **settings: str
) -> Iterator[Product]:
    """Both, with one user.

    Args:
        auth_port: where `serve` looks for the auth service; a proxy of the test's stands there, or nobody does.
    """
    secret = {"auth__service_secret": "s3cret-of-the-door", "auth__issuer": ISSUER, "auth__typ": "at+jwt"}
    authd = start(
        folder,
        "authd",
        "serve",
        authd__admin_email=EMAIL,
        authd__admin_password=PASSWORD,
        trusted_proxies="127.0.0.0/8",
        environment="development",
        **secret,
    )
    try:
        mine = {"auth__url": f"http://127.0.0.1:{auth_port}", "chat__agent": agent, "environment": "development"}
        running = Product(folder, authd, authd, auth_port, secret | mine | settings)
        running.restart()
        try:
            yield running
        finally:
            running.serve.kill()
    finally:
        authd.kill()


@dataclass
class Paths:
    """The two ways that can be broken: from the client to `serve`, and from there to the auth service."""

    to_serve: FaultProxy
    to_auth: FaultProxy

    @property
    def url(self) -> str:
        return self.to_serve.url


@asynccontextmanager
async def paths(running: Product) -> AsyncIterator[Paths]:
    async with (
        FaultProxy("127.0.0.1", running.authd.port, port=running.auth_port) as to_auth,
        FaultProxy("127.0.0.1", running.serve.port) as to_serve,
    ):
        yield Paths(to_serve, to_auth)
