"""Doors as processes of their own, for what several processes of a node share."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import websockets
from websockets.exceptions import InvalidStatus

SCRIPT = Path(__file__).parent / "integration" / "accepting_door.py"
PATIENCE_SECONDS = 30.0


@asynccontextmanager
async def process(settings: dict[str, Any]) -> AsyncIterator[int]:
    """A door with an app that accepts. Yields its port; ends by SIGKILL."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), json.dumps(settings), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        line = (await asyncio.wait_for(child.stdout.readline(), PATIENCE_SECONDS)).decode()
        match = re.search(r"ready http://127\.0\.0\.1:(\d+) pid=", line)
        assert match, line
        yield int(match[1])
    finally:
        child.kill()
        await child.communicate()


async def answer(port: int, token: str | None = None, *, path: str = "/ws") -> str:
    """The code of the table with its cause, or `in`."""
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    url = f"ws://127.0.0.1:{port}{path}"
    try:
        async with websockets.connect(url, additional_headers=headers, proxy=None, open_timeout=15):
            return "in"
    except InvalidStatus as refused:
        problem = json.loads(refused.response.body or b"{}")
        return " ".join(str(problem[key]) for key in ("code", "cause") if problem.get(key))
