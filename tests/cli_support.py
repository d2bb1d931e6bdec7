"""Runs the real commands as processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 20.0
SLOW_START_SECONDS = 1.5


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str
    seconds: float

    @property
    def json(self) -> dict[str, Any]:
        assert self.out, self.err
        content = json.loads(self.out)
        assert isinstance(content, dict)
        return content

    @property
    def said(self) -> str:
        """stderr without line breaks of the terminal's making."""
        return " ".join(self.err.split())


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Ours without any `DOORWARD_*`, and these settings: `auth__url="..."`."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("DOORWARD_")}
    return inherited | {f"DOORWARD_{name.upper()}": value for name, value in variables.items()} | {"COLUMNS": "200"}


async def doorward(*arguments: str, cwd: Path, stdin: str = "", **variables: str) -> Outcome:
    """Run `doorward ...` to its end."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "doorward", *arguments,
        cwd=cwd,
        env=environment(variables),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), PATIENCE_SECONDS)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return Outcome(process.returncode, out.decode(), err.decode(), time.monotonic() - began)


async def assert_in_time(outcome: Outcome, limit_seconds: float, cwd: Path) -> None:
    """It took less than this. Where Python alone takes seconds to start, only what came on top of that is held against it."""
    if outcome.seconds >= limit_seconds:
        idle = await doorward("--help", cwd=cwd)
        assert idle.seconds > SLOW_START_SECONDS, f"{outcome.seconds:.1f} s"
        assert outcome.seconds - idle.seconds < limit_seconds - 1.0


@dataclass
class Running:
    """A server command. `code` and `stop_seconds` are there after it was stopped."""

    url: str
    ready_line: str
    process: asyncio.subprocess.Process

    async def stop(self) -> tuple[int, float, str]:
        """SIGTERM; exit code, seconds it took, and stderr."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(self.process.communicate(), PATIENCE_SECONDS)
        assert self.process.returncode is not None
        return self.process.returncode, time.monotonic() - began, err.decode()


def authd_serving(*arguments: str, cwd: Path, **variables: str) -> AbstractAsyncContextManager[Running]:
    """`doorward authd serve --port 0`, ready."""
    return serving("authd", "serve", *arguments, cwd=cwd, env=environment(variables))


@asynccontextmanager
async def serving(*command: str, cwd: Path, env: Mapping[str, str]) -> AsyncIterator[Running]:
    """A server command on a free port, ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "doorward", *command, "--port", "0",
        cwd=cwd,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), PATIENCE_SECONDS)).decode().rstrip("\n")
        match = re.search(r"ready (http://\S+) pid=(\d+)$", line)
        if match is None:
            _, err = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
            raise AssertionError(f"{command} did not start: {line} {err.decode()}")
        assert int(match[2]) == process.pid
        yield Running(match[1], line, process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
