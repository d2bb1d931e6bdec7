"""Types the commands of a page as its reader would: in a shell, in a folder of their own, with `doorward` on the path."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import started

from doorward.config import child_environment

RUN_SECONDS = 60.0
STOP_SECONDS = 20.0
PROLOGUE = "set -e\ntrap : TERM\n"
"""The first command that fails is the last one, and the shell itself outlives a SIGTERM, to see its commands end."""

AT_ONCE = {"serve.drain_delay_seconds": "0", "serve.drain_spread_seconds": "0"}
"""A server that is told to end waits for no load balancer."""


@dataclass(frozen=True, slots=True)
class Typed:
    """Commands of which the last one goes on: a server."""

    process: asyncio.subprocess.Process
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


def replaced(text: str, ours: Mapping[str, str]) -> str:
    """A block of a page with our address, port or folder in place of each that it names."""
    for shown, own in ours.items():
        assert shown in text, f"{shown} is not in {text}"
        text = text.replace(shown, own)
    return text


async def typed(script: str, *, cwd: Path, settings: Mapping[str, str] | None = None, **variables: str) -> str:
    """Commands that end, and end well; what they print. `settings` by dotted key."""
    process = await _shell(script, cwd, settings or {}, variables, asyncio.subprocess.PIPE)
    try:
        out, err = await asyncio.wait_for(process.communicate(), RUN_SECONDS)
    finally:
        await _end(process)
    assert process.returncode == 0, (out + err).decode()
    return out.decode()


@asynccontextmanager
async def typed_server(
    script: str, port: int, *, cwd: Path, settings: Mapping[str, str] | None = None, **variables: str
) -> AsyncIterator[Typed]:
    """Commands of which the last one is a server, once that listens. It has ended when this has."""
    log = cwd / f"{port}.log"
    with log.open("wb") as output:
        process = await _shell(script, cwd, AT_ONCE | dict(settings or {}), variables, output.fileno())
    shell = Typed(process, log)
    try:
        assert await started(process, str(port)), shell.said
        yield shell
    finally:
        await _end(process)


async def _shell(
    script: str, cwd: Path, settings: Mapping[str, str], variables: Mapping[str, str], output: int
) -> asyncio.subprocess.Process:
    ours = child_environment(settings)
    return await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        PROLOGUE + script,
        cwd=cwd,
        env={**ours, "PATH": f"{Path(sys.executable).parent}:{ours['PATH']}", "COLUMNS": "200", **variables},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the shell and all that it started."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
