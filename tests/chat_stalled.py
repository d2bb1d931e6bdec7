"""Readers of long threads that stop reading, against a real server: `python -m tests.chat_stalled --readers 1000`.

Each asks for a whole thread that is longer than a socket's queue and takes none of it. Shared is nothing: every one of them
reads from the file. Prints what the server's memory grew by, and what it did with the readers.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import aiohttp
from tests.chat_server import ChatClient
from tests.serve_process import ServeProcess
from tests.slow_network import narrow_socket

from doorward.cli.process import raise_file_limit
from doorward.testing import FakeAuthService

RUNS, BLOCKS, BLOCK_CHARACTERS = 6, 60, 4_000
"""Of the long thread: 1.4 MB in all."""
READERS_PER_USER = 20
SAMPLE_SECONDS = 0.02
PATIENCE_SECONDS = 120.0
AT_ONCE = 20
HELD_BYTES = 524_288
"""The least that the queue of a stalled reader holds in the end."""

UNSENT = "doorward_chat_unsent_bytes"
SLOW = 'doorward_chat_slow_readers_total{{why="{}"}}'


@dataclass(frozen=True)
class Siege:
    """What came of it. `grown_bytes`: the most above what the server held with all of them connected and idle."""

    readers: int
    budget_bytes: int
    idle_bytes: int
    grown_bytes: int
    unsent_bytes: float
    closed_for_budget: float
    closed_as_stalled: float
    seconds: float

    def __str__(self) -> str:
        mib = 1 / 1_048_576
        return (
            f"{self.readers} readers that stopped reading, budget {self.budget_bytes * mib:.0f} MiB: "
            f"{self.idle_bytes * mib:.0f} MiB with all of them idle, then +{self.grown_bytes * mib:.0f} MiB at most; "
            f"unsent {self.unsent_bytes * mib:.1f} MiB in the end; closed with 1013: {self.closed_for_budget:.0f} for the "
            f"budget, {self.closed_as_stalled:.0f} as stalled; {self.seconds:.0f} s"
        )


async def besiege(folder: Path, *, readers: int, budget_bytes: int) -> Siege:
    """Until all are closed but those that the budget holds; where it holds all, until they are closed as stalled."""
    async with (
        FakeAuthService() as auth,
        ServeProcess.running(folder, auth, chat__unsent_bytes=budget_bytes) as process,
        AsyncExitStack() as stack,
    ):
        users = [f"user-{number}" for number in range(-(-readers // READERS_PER_USER))]
        (epoch,) = {await long_thread(process, user) for user in users}
        began = time.monotonic()
        mine = [users[number // READERS_PER_USER] for number in range(readers)]
        clients = [await stack.enter_async_context(narrow(process, user)) for user in mine]
        memory = stack.enter_context(Memory(process))
        gate = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(stall(client, user, epoch, gate) for client, user in zip(clients, mine, strict=True)))
        held = budget_bytes // HELD_BYTES
        values = await closed(process, readers - held if held < readers else readers)
        return Siege(
            readers,
            budget_bytes,
            memory.idle_bytes,
            memory.most_bytes - memory.idle_bytes,
            values[UNSENT],
            values.get(SLOW.format("budget"), 0.0),
            values.get(SLOW.format("stalled"), 0.0),
            time.monotonic() - began,
        )


class Memory:
    """What a process holds: when it is entered, and at most while it is."""

    def __init__(self, process: ServeProcess) -> None:
        self._process = process

    def __enter__(self) -> Self:
        self.idle_bytes = self.most_bytes = self._process.resident_bytes
        self._watch = asyncio.create_task(self._look())
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.cancel()

    async def _look(self) -> None:
        while True:
            self.most_bytes = max(self.most_bytes, self._process.resident_bytes)
            await asyncio.sleep(SAMPLE_SECONDS)


async def long_thread(process: ServeProcess, user: str) -> str:
    """Make the user's thread; returns the epoch."""
    async with process.client(user) as client:
        epoch = (await client.ask("thread.subscribe", thread_id=f"t-{user}"))["epoch"]
        for number in range(RUNS):
            question = f"blocks={BLOCKS} size={BLOCK_CHARACTERS} | much"
            await client.ask("run.start", thread_id=f"t-{user}", run_id=f"r{number}", message=question)
            while (await client.envelope())["event"]["type"] != "RUN_FINISHED":
                pass
    return str(epoch)


@asynccontextmanager
async def narrow(process: ServeProcess, user: str) -> AsyncIterator[ChatClient]:
    """A connection that is broken off in the end, whatever is left in it."""
    connection = await process.connect(user, sock=await narrow_socket(process.port), max_queue=1, ping_interval=None)
    try:
        yield ChatClient(connection)
    finally:
        connection.transport.abort()


async def stall(client: ChatClient, user: str, epoch: str, gate: asyncio.Semaphore) -> None:
    """Ask for all of it, and read no further than the reply."""
    async with gate:
        reply = await client.ask("thread.subscribe", thread_id=f"t-{user}", epoch=epoch, after_seq=0)
    assert reply["resumed"] is True


async def closed(process: ServeProcess, at_least: int) -> Mapping[str, float]:
    """The metrics, once so many were closed."""
    async with asyncio.timeout(PATIENCE_SECONDS), aiohttp.ClientSession() as http:
        while True:
            async with http.get(f"http://127.0.0.1:{process.port}/metrics") as answer:
                lines = (line.rpartition(" ") for line in (await answer.text()).splitlines() if line[:1] != "#")
                values = {name: float(value) for name, _, value in lines}
            if sum(values.get(SLOW.format(why), 0.0) for why in ("budget", "stalled")) >= at_least:
                return values
            await asyncio.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chat_stalled", description=__doc__)
    parser.add_argument("--readers", type=int, default=1_000)
    parser.add_argument("--budget-mib", type=int, default=64)
    options = parser.parse_args()
    raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="doorward-stalled-") as folder:
        work = besiege(Path(folder) / "serve", readers=options.readers, budget_bytes=options.budget_mib * 1_048_576)
        print(asyncio.run(work))


if __name__ == "__main__":
    main()
