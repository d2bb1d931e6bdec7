"""The chat application as a process of its own, that can be killed: `python -m tests.chat_process FILE [PACE_SECONDS]`.

Behind a stand-in for the door. The agent says the question again, word by word, with a thought before and two tools in between.
Prints the port when it is ready.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import structlog
from ag_ui.core import BaseEvent
from tests.chat_scripted import whole
from tests.chat_server import ChatClient, ChatServer
from tests.chat_support import FakeInsight, ScriptedAgent
from websockets.asyncio.client import connect

from doorward.chat.agents.port import RunRequest
from doorward.chat.app import create_app
from doorward.config import Settings

ROOT = Path(__file__).parents[1]
READY_SECONDS = 30.0


def paced(pace_seconds: float) -> ScriptedAgent:
    """Thinks, uses a tool, and answers with the question; `pace_seconds` lie between two events."""

    async def script(request: RunRequest) -> AsyncIterator[BaseEvent]:
        async for event in whole(request):
            yield event
            await asyncio.sleep(pace_seconds)

    return ScriptedAgent(script)


class ChatProcess:
    """A running one. `kill` it as hard as it gets."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port

    @classmethod
    async def start(cls, file: Path, *, pace_seconds: float = 0.002) -> Self:
        """Start it and wait until it serves."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.chat_process", str(file), str(pace_seconds),
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
        )  # fmt: skip
        assert process.stdout is not None
        async with asyncio.timeout(READY_SECONDS):
            line = await process.stdout.readline()
        if not line.strip().isdigit():
            process.kill()
            await process.wait()
            raise AssertionError(f"it did not start: {line!r}")
        return cls(process, int(line))

    @asynccontextmanager
    async def client(self, user: str = "alice") -> AsyncIterator[ChatClient]:
        async with connect(f"ws://127.0.0.1:{self.port}/ws?{user}", proxy=None) as connection:
            yield ChatClient(connection)

    async def kill(self, number: int = signal.SIGKILL) -> None:
        """End it and wait for that."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(READY_SECONDS):
            await self.process.wait()


async def main(file: Path, pace_seconds: float) -> None:
    app = create_app(
        Settings(auth={"url": "http://127.0.0.1:1"}),
        insight=FakeInsight(),
        ready=lambda: True,
        agent=paced(pace_seconds),
        data_file=file,
    )
    stopped = asyncio.Event()
    async with ChatServer.serving(app) as server:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        print(server.port, flush=True)
        await stopped.wait()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
