"""`doorward serve` as a process of its own, that can be killed, on a data folder that outlives it. Asks the test's auth service."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from tests.chat_server import ChatClient
from tests.cli_support import environment
from websockets.asyncio.client import connect

from doorward.testing import FakeAuthService

ROOT = Path(__file__).parents[1]
READY_SECONDS = 30.0
ROOMY = {"limits__address_rate_per_second": "100000", "limits__address_burst": "100000"}
"""All clients of a test have one address."""


class ServeProcess:
    """A running one. `kill` it as hard as it gets; `start` it again with the same folder."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, auth: FakeAuthService) -> None:
        self.process = process
        self.port = port
        self._auth = auth
        self._tokens: dict[str, str] = {}

    @classmethod
    async def start(cls, folder: Path, auth: FakeAuthService, **settings: Any) -> Self:
        """Start it and wait until it serves. Its log is `serve.log` in the folder."""
        folder.mkdir(exist_ok=True)  # noqa: ASYNC240 - a test's own folder
        chosen = {
            "auth__url": auth.url,
            "auth__issuer": auth.issuer,
            "auth__service_secret": auth.service_secret,
            "chat__agent": "tests.chat_scripted:AGENT",
            "data_dir": folder / "data",
            **ROOMY,
            **settings,
        }
        with (folder / "serve.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "doorward", "serve", "--port", "0",
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env={
                    **environment({name: str(value) for name, value in chosen.items()}),
                    "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
                },
            )  # fmt: skip
        assert process.stdout is not None
        async with asyncio.timeout(READY_SECONDS):
            line = (await process.stdout.readline()).decode()
        ready = re.search(r"ready http://127\.0\.0\.1:(\d+)", line)
        if ready is None:
            process.kill()
            await process.wait()
            raise AssertionError(f"it did not start: {line!r}\n{(folder / 'serve.log').read_text()[-2_000:]}")
        return cls(process, int(ready[1]), auth)

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path, auth: FakeAuthService, **settings: Any) -> AsyncIterator[Self]:
        """One that is killed in the end."""
        process = await cls.start(folder, auth, **settings)
        try:
            yield process
        finally:
            await process.kill()

    def token(self, user: str) -> str:
        return self._tokens.setdefault(user, self._auth.issue(user))

    def connect(self, user: str, **options: Any) -> connect:
        """A connection to come, as a client that is no browser makes it."""
        headers = {"Authorization": f"Bearer {self.token(user)}"}
        url = f"ws://127.0.0.1:{self.port}/ws"
        return connect(url, additional_headers=headers, proxy=None, open_timeout=30, compression=None, **options)

    @asynccontextmanager
    async def client(self, user: str = "alice", **options: Any) -> AsyncIterator[ChatClient]:
        async with self.connect(user, **options) as connection:
            yield ChatClient(connection)

    @property
    def resident_bytes(self) -> int:
        """What the process holds in memory now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    async def kill(self, number: int = signal.SIGKILL) -> None:
        """End it and wait for that."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(READY_SECONDS):
            await self.process.wait()
