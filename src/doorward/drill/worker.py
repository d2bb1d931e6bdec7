"""A process that plays scenarios one after the other: `python -m doorward.drill.worker`. One order a line comes in, results go out.

In: `{"scenario": NAME, "seed": N, "command": [...], "warm": PATH or null}`. Out: `{"say": TEXT}` while it goes on, `{"up": URL}`
for each door that was started, `{"result": {...}}` at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from doorward.drill.catalogue import every_scenario
from doorward.drill.play import Play

NULL_SECONDS = 10.0
LINE_BYTES = 1 << 20


async def main() -> None:
    """Play until the orders end."""
    _raise_file_limit()
    catalogue = {scenario.name: scenario for scenario in every_scenario()}
    orders = await _lines_of(sys.stdin)
    async with null_server() as null_url:
        while line := await orders.readline():
            order = msgspec.json.decode(line)
            with tempfile.TemporaryDirectory(prefix="doorward-drill-") as folder:
                play = Play(
                    catalogue[order["scenario"]],
                    Path(folder),
                    seed=order["seed"],
                    command=order["command"],
                    warm=Path(order["warm"]) if order["warm"] else None,
                    null_url=null_url,
                    say=lambda text: _out({"say": text}),
                    up=lambda url: _out({"up": url}),
                )
                _out({"result": await play.run()})


@asynccontextmanager
async def null_server() -> AsyncIterator[str | None]:
    """A server that lets everybody in, as a process of its own. `None`: it could not be had."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "doorward.drill.null_app",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        port = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(NULL_SECONDS):
                port = await process.stdout.readline() if process.stdout is not None else b""
        yield f"ws://127.0.0.1:{int(port)}/" if port else None
    finally:
        process.kill()
        await process.wait()


async def _lines_of(stream: Any) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stream)
    return reader


def _out(message: dict[str, Any]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


def _raise_file_limit() -> None:
    """A crowd of clients is a crowd of open files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    asyncio.run(main())
